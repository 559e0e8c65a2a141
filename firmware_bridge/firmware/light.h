/* The light and every rule that turns it off by itself. Source: PROTOCOL.md 4. No I/O but the one call that drives it. */
#ifndef DERMSTATION_LIGHT_H
#define DERMSTATION_LIGHT_H

#include <stdbool.h>
#include <stdint.h>

/* Drive the LEDs: `mode` as in enum light_mode, `level` 0 to 100 %. */
typedef void (*light_output)(void *context, uint8_t mode, uint8_t level);

struct light {
    light_output output;
    void *context;
    uint8_t mode;
    uint8_t level;                 /* %, in effect */
    uint8_t off_reason;
    uint32_t ordered_ms;           /* when the present order was carried out */
    uint16_t limit_ms;             /* counted from ordered_ms */
    uint32_t on_since_ms;          /* start of continuous light */
    uint32_t rest_since_ms;
    bool is_resting;
    bool is_hot;
    bool is_battery_low;
    bool is_blind;                 /* no temperature sensor */
};

void light_init(struct light *light, light_output output, void *context);

/* Turn on; `level` is capped when there is no temperature sensor. */
void light_on(struct light *light, uint8_t mode, uint8_t level, uint16_t limit_ms, uint32_t now_ms);

/* Turn off for `reason`; does nothing, and keeps the old reason, when it is off. */
void light_off(struct light *light, uint8_t reason);

/* The NAK reason that forbids light now, or 0. */
uint8_t light_refusal(const struct light *light);

uint16_t light_remaining_ms(const struct light *light, uint32_t now_ms);

/* Follow the sensors: 0.01 C (TEMPERATURE_ABSENT), mV (0 = no battery). */
void light_sense(struct light *light, int16_t temperature, uint16_t battery_mv);

/* Apply the limits; returns the off reason when one of them turned the light off just now, else 0. */
uint8_t light_tick(struct light *light, uint32_t host_heard_ms, uint32_t now_ms);

#endif
