#include "protocol.h"

#include <string.h>

void put_u16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)(value & 0xFFu);
    at[1] = (uint8_t)(value >> 8);
}

void put_u32(uint8_t *at, uint32_t value) {
    put_u16(at, (uint16_t)(value & 0xFFFFu));
    put_u16(at + 2, (uint16_t)(value >> 16));
}

uint16_t get_u16(const uint8_t *at) {
    return (uint16_t)(at[0] | ((uint16_t)at[1] << 8));
}

uint32_t get_u32(const uint8_t *at) {
    return get_u16(at) | ((uint32_t)get_u16(at + 2) << 16);
}

/* Bit by bit: a table would cost 1 KB of the AVR's 2 KB of RAM, and 44 bytes take under a millisecond at 16 MHz. */
uint32_t protocol_crc32(const uint8_t *bytes, size_t count) {
    uint32_t crc = 0xFFFFFFFFul;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (uint8_t bit = 0; bit < 8; bit++) {
            crc = (crc & 1u) ? (crc >> 1) ^ 0xEDB88320ul : crc >> 1;
        }
    }
    return crc ^ 0xFFFFFFFFul;
}

/* COBS-encode `count` (below 255) bytes and return the encoded count, count + 1. */
static uint8_t cobs_encode(const uint8_t *body, uint8_t count, uint8_t *encoded) {
    uint8_t code_at = 0;
    uint8_t code = 1;
    for (uint8_t i = 0; i < count; i++) {
        if (body[i] == 0) {
            encoded[code_at] = code;
            code_at = (uint8_t)(i + 1);
            code = 1;
        } else {
            encoded[i + 1] = body[i];
            code++;
        }
    }
    encoded[code_at] = code;
    return (uint8_t)(count + 1);
}

/* COBS-decode `count` bytes in place and return the decoded count; 0 when a distance leads outside. */
static uint8_t cobs_decode(uint8_t *bytes, uint8_t count) {
    uint8_t from = 0;
    uint8_t to = 0;
    while (from < count) {
        uint8_t code = bytes[from++];
        if (code == 0 || code - 1 > count - from) {
            return 0;
        }
        for (uint8_t i = 1; i < code; i++) {
            bytes[to++] = bytes[from++];
        }
        if (from < count) {
            bytes[to++] = 0;
        }
    }
    return to;
}

uint8_t protocol_encode(const struct packet *packet, uint8_t *wire) {
    uint8_t body[BODY_MAX];
    uint8_t covered = (uint8_t)(HEADER_BYTES + packet->length);
    body[0] = PROTOCOL_VERSION;
    body[1] = packet->kind;
    body[2] = packet->opcode;
    body[3] = packet->length;
    put_u16(body + 4, packet->session);
    put_u16(body + 6, packet->sequence);
    memcpy(body + HEADER_BYTES, packet->payload, packet->length);
    put_u32(body + covered, protocol_crc32(body, covered));
    wire[0] = 0;
    uint8_t encoded = cobs_encode(body, (uint8_t)(covered + CHECK_BYTES), wire + 1);
    wire[1 + encoded] = 0;
    return (uint8_t)(encoded + 2);
}

static bool unpack(const uint8_t *body, uint8_t count, struct packet *packet) {
    if (count < BODY_MIN) {
        return false;
    }
    uint8_t covered = (uint8_t)(count - CHECK_BYTES);
    if (get_u32(body + covered) != protocol_crc32(body, covered)) {
        return false;
    }
    if (body[0] != PROTOCOL_VERSION || body[1] < KIND_COMMAND || body[1] > KIND_EVENT_ACK ||
        body[3] != covered - HEADER_BYTES) {
        return false;
    }
    packet->kind = body[1];
    packet->opcode = body[2];
    packet->length = body[3];
    packet->session = get_u16(body + 4);
    packet->sequence = get_u16(body + 6);
    memcpy(packet->payload, body + HEADER_BYTES, packet->length);
    return true;
}

enum decoded protocol_decode(struct decoder *decoder, uint8_t byte, struct packet *packet) {
    if (byte != 0) {
        if (decoder->count < ENCODED_MAX) {
            decoder->encoded[decoder->count++] = byte;
        } else {
            decoder->is_oversized = true;
        }
        return DECODED_NOTHING;
    }
    uint8_t count = decoder->count;
    bool is_oversized = decoder->is_oversized;
    decoder->count = 0;
    decoder->is_oversized = false;
    if (count == 0) {
        return DECODED_NOTHING;
    }
    if (is_oversized) {
        return DECODED_OVERSIZED;
    }
    return unpack(decoder->encoded, cobs_decode(decoder->encoded, count), packet) ? DECODED_PACKET : DECODED_CORRUPT;
}
