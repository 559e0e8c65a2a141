/* The device: sessions, commands, events. Pure: bytes, inputs and the time come in, bytes and light go out.
 * Source: PROTOCOL.md 3, 5 and 6. */
#ifndef DERMSTATION_DEVICE_H
#define DERMSTATION_DEVICE_H

#include "light.h"
#include "protocol.h"

enum { EVENT_QUEUE = 4, INPUT_COUNT = 3 };

/* Send wire bytes; must take all of them. */
typedef void (*device_output)(void *context, const uint8_t *bytes, uint8_t count);

/* Facts fixed at boot. */
struct device_identity {
    uint8_t board;                 /* enum board */
    uint8_t version[3];            /* major, minor, patch */
    uint8_t reset_cause;
    uint16_t boot_id;
    uint32_t unit_number;
};

/* What the pins and sensors say now. */
struct device_inputs {
    uint8_t buttons;               /* enum input, 1 = pressed, not yet debounced */
    bool are_dead;                 /* the port's self-test failed: buttons are ignored */
    int16_t temperature;           /* 0.01 C or TEMPERATURE_ABSENT */
    uint16_t battery_mv;           /* 0 = no battery */
    uint8_t charger;               /* battery state when there is one: 1 to 3 */
};

struct event {
    uint8_t opcode;
    uint8_t value;
    uint32_t since_ms;
};

enum counter {
    COUNT_PACKETS, COUNT_CORRUPT, COUNT_OVERSIZED, COUNT_DUPLICATES, COUNT_STALE, COUNT_EVENTS_DROPPED, COUNT_NAKS,
    COUNTERS
};

struct device {
    struct device_identity identity;
    device_output output;
    void *context;
    struct light light;
    struct decoder decoder;
    struct device_inputs inputs;
    uint16_t counters[COUNTERS];

    uint16_t session;              /* 0 = none */
    uint16_t previous_session;
    struct packet answer;          /* the last one, repeated for a duplicate; its sequence is the last sequence */
    uint32_t host_heard_ms;
    uint32_t corrupt_nak_ms;
    bool has_sent_corrupt_nak;

    uint8_t pressed;               /* debounced inputs */
    uint8_t unsettled;             /* bits whose level differs from `pressed` */
    uint32_t edge_ms[INPUT_COUNT];

    struct event events[EVENT_QUEUE];
    uint8_t event_count;
    uint16_t event_sequence;       /* of the head */
    bool is_head_sent;
    uint32_t head_sent_ms;

    bool is_updating;
    uint32_t update_since_ms;
};

void device_init(struct device *device, const struct device_identity *identity, device_output output,
                 light_output light, void *context);
void device_receive(struct device *device, uint8_t byte, uint32_t now_ms);

/* To be called every millisecond; a late call does the same work later. */
void device_tick(struct device *device, const struct device_inputs *inputs, uint32_t now_ms);

/* Carry out `command`, whose session and sequence are in order, and fill `answer`. In commands.c. */
void device_execute(struct device *device, const struct packet *command, struct packet *answer, uint32_t now_ms);

/* Make `answer` the NAK of its command. */
void device_refuse(struct packet *answer, uint8_t reason, uint8_t detail);

#endif
