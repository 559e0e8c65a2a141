#include "light.h"

#include "codes.h"

void light_init(struct light *light, light_output output, void *context) {
    *light = (struct light){.output = output, .context = context, .is_blind = true};
    output(context, LIGHT_OFF, 0);
}

void light_on(struct light *light, uint8_t mode, uint8_t level, uint16_t limit_ms, uint32_t now_ms) {
    if (light->mode == LIGHT_OFF) {
        light->on_since_ms = now_ms;
    }
    light->mode = mode;
    light->level = (light->is_blind && level > LEVEL_MAX_BLIND) ? LEVEL_MAX_BLIND : level;
    light->ordered_ms = now_ms;
    light->limit_ms = limit_ms;
    light->output(light->context, light->mode, light->level);
}

void light_off(struct light *light, uint8_t reason) {
    if (light->mode == LIGHT_OFF) {
        return;
    }
    light->mode = LIGHT_OFF;
    light->level = 0;
    light->off_reason = reason;
    light->output(light->context, LIGHT_OFF, 0);
}

uint8_t light_refusal(const struct light *light) {
    if (light->is_hot) {
        return NAK_HOT;
    }
    if (light->is_battery_low) {
        return NAK_BATTERY;
    }
    return light->is_resting ? NAK_RESTING : 0;
}

uint16_t light_remaining_ms(const struct light *light, uint32_t now_ms) {
    uint32_t elapsed_ms = now_ms - light->ordered_ms;
    if (light->mode == LIGHT_OFF || elapsed_ms >= light->limit_ms) {
        return 0;
    }
    return (uint16_t)(light->limit_ms - elapsed_ms);
}

void light_sense(struct light *light, int16_t temperature, uint16_t battery_mv) {
    light->is_blind = temperature == TEMPERATURE_ABSENT;
    /* A sensor that is lost while hot leaves the light locked: the last thing known is that it was hot. */
    if (!light->is_blind && temperature >= TEMPERATURE_HOT) {
        light->is_hot = true;
    } else if (!light->is_blind && temperature <= TEMPERATURE_COOL) {
        light->is_hot = false;
    }
    if (battery_mv > 0 && battery_mv < BATTERY_LOW_MV) {
        light->is_battery_low = true;
    } else if (battery_mv == 0 || battery_mv >= BATTERY_ENOUGH_MV) {
        light->is_battery_low = false;
    }
    /* A sensor lost while lit: the cap holds for light that is on already. */
    if (light->mode != LIGHT_OFF && light->is_blind && light->level > LEVEL_MAX_BLIND) {
        light->level = LEVEL_MAX_BLIND;
        light->output(light->context, light->mode, light->level);
    }
}

static uint8_t limit_reached(const struct light *light, uint32_t host_heard_ms, uint32_t now_ms) {
    if (now_ms - light->ordered_ms >= light->limit_ms) {
        return OFF_TIME_LIMIT;
    }
    if (now_ms - host_heard_ms >= HOST_SILENT_MS) {
        return OFF_HOST_SILENT;
    }
    if (light->is_hot) {
        return OFF_HOT;
    }
    if (light->is_battery_low) {
        return OFF_BATTERY;
    }
    return now_ms - light->on_since_ms >= CONTINUOUS_MAX_MS ? OFF_CONTINUOUS : 0;
}

uint8_t light_tick(struct light *light, uint32_t host_heard_ms, uint32_t now_ms) {
    uint8_t reason = 0;
    if (light->mode != LIGHT_OFF) {
        reason = limit_reached(light, host_heard_ms, now_ms);
        if (reason != 0) {
            light_off(light, reason);
        }
        if (reason == OFF_CONTINUOUS) {
            light->is_resting = true;
            light->rest_since_ms = now_ms;
        }
    }
    if (light->is_resting && now_ms - light->rest_since_ms >= REST_MS) {
        light->is_resting = false;
    }
    return reason;
}
