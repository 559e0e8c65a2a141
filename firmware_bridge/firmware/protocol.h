/* Packets of the serial protocol: COBS, CRC-32, encode, decode. No I/O, no clock, no heap. Source: PROTOCOL.md 2. */
#ifndef DERMSTATION_PROTOCOL_H
#define DERMSTATION_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROTOCOL_VERSION = 1,
    HEADER_BYTES = 8,
    CHECK_BYTES = 4,
    PAYLOAD_MAX = 32,
    BODY_MIN = HEADER_BYTES + CHECK_BYTES,
    BODY_MAX = HEADER_BYTES + PAYLOAD_MAX + CHECK_BYTES,
    ENCODED_MAX = BODY_MAX + 1,    /* one byte of COBS overhead below 255 bytes */
    WIRE_MAX = ENCODED_MAX + 2     /* and a delimiter on both sides */
};

enum kind { KIND_COMMAND = 1, KIND_ACK = 2, KIND_NAK = 3, KIND_EVENT = 4, KIND_EVENT_ACK = 5 };

struct packet {
    uint8_t kind;
    uint8_t opcode;
    uint8_t length;                /* bytes of payload, 0 to PAYLOAD_MAX */
    uint16_t session;
    uint16_t sequence;
    uint8_t payload[PAYLOAD_MAX];
};

/* What one received byte brought. */
enum decoded { DECODED_NOTHING, DECODED_PACKET, DECODED_CORRUPT, DECODED_OVERSIZED };

/* A streaming decoder; all zeros is its start. */
struct decoder {
    uint8_t encoded[ENCODED_MAX];
    uint8_t count;
    bool is_oversized;
};

uint32_t protocol_crc32(const uint8_t *bytes, size_t count);

/* Write `packet` as wire bytes to `wire` (WIRE_MAX bytes) and return how many. */
uint8_t protocol_encode(const struct packet *packet, uint8_t *wire);

/* Take one byte; on DECODED_PACKET `packet` is filled. Never reads or writes outside its buffers, whatever comes. */
enum decoded protocol_decode(struct decoder *decoder, uint8_t byte, struct packet *packet);

void put_u16(uint8_t *at, uint16_t value);
void put_u32(uint8_t *at, uint32_t value);
uint16_t get_u16(const uint8_t *at);
uint32_t get_u32(const uint8_t *at);

#endif
