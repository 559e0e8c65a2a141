/* What each command does. Source: PROTOCOL.md 5. */
#include "codes.h"
#include "device.h"

void device_refuse(struct packet *answer, uint8_t reason, uint8_t detail) {
    answer->kind = KIND_NAK;
    answer->length = 2;
    answer->payload[0] = reason;
    answer->payload[1] = detail;
}

static void hello(struct device *device, const struct packet *command, struct packet *answer, uint32_t now_ms) {
    if (command->payload[0] > PROTOCOL_VERSION || command->payload[1] < PROTOCOL_VERSION) {
        device_refuse(answer, NAK_VERSION, PROTOCOL_VERSION);
        return;
    }
    if (command->session != device->session) {
        device->previous_session = device->session;
        device->session = command->session;
    }
    if (device->is_head_sent) {
        device->event_sequence++;
    }
    device->event_count = 0;
    device->is_head_sent = false;
    device->is_updating = false;
    device->host_heard_ms = now_ms;
    light_off(&device->light, OFF_NEW_SESSION);
    answer->length = 8;
    answer->payload[0] = PROTOCOL_VERSION;
    answer->payload[1] = device->identity.reset_cause;
    put_u16(answer->payload + 2, device->identity.boot_id);
    put_u32(answer->payload + 4, now_ms);
}

static uint8_t faults(const struct device *device) {
    const struct light *light = &device->light;
    return (uint8_t)((light->is_blind ? FAULT_NO_TEMPERATURE : 0) | (light->is_hot ? FAULT_HOT : 0) |
                     (light->is_battery_low ? FAULT_BATTERY_LOW : 0) |
                     (device->inputs.are_dead ? FAULT_INPUTS_DEAD : 0) | (light->is_resting ? FAULT_RESTING : 0) |
                     (device->is_updating ? FAULT_UPDATE : 0));
}

static void heartbeat(const struct device *device, struct packet *answer, uint32_t now_ms) {
    answer->length = 12;
    put_u32(answer->payload, now_ms);
    answer->payload[4] = device->light.mode;
    answer->payload[5] = device->light.level;
    put_u16(answer->payload + 6, light_remaining_ms(&device->light, now_ms));
    answer->payload[8] = device->pressed;
    answer->payload[9] = device->light.off_reason;
    answer->payload[10] = faults(device);
    answer->payload[11] = 0;
}

static void order_light(struct device *device, const struct packet *command, struct packet *answer, uint32_t now_ms) {
    uint8_t mode = command->payload[0];
    uint8_t level = command->payload[1];
    uint16_t limit_ms = get_u16(command->payload + 2);
    if (mode > LIGHT_POLARISED) {
        device_refuse(answer, NAK_VALUE, 0);
        return;
    }
    if (mode == LIGHT_OFF ? level != 0 : (level == 0 || level > LEVEL_MAX)) {
        device_refuse(answer, NAK_VALUE, 1);
        return;
    }
    if (mode == LIGHT_OFF ? limit_ms != 0 : (limit_ms == 0 || limit_ms > TIME_LIMIT_MAX_MS)) {
        device_refuse(answer, NAK_VALUE, 2);
        return;
    }
    if (mode == LIGHT_OFF) {
        light_off(&device->light, OFF_ORDERED);
    } else {
        uint8_t refusal = device->is_updating ? (uint8_t)NAK_UPDATE : light_refusal(&device->light);
        if (refusal != 0) {
            device_refuse(answer, refusal, 0);
            return;
        }
        light_on(&device->light, mode, level, limit_ms, now_ms);
    }
    answer->length = 4;
    answer->payload[0] = device->light.mode;
    answer->payload[1] = device->light.level;
    put_u16(answer->payload + 2, light_remaining_ms(&device->light, now_ms));
}

static void battery(const struct device *device, struct packet *answer) {
    uint16_t mv = device->inputs.battery_mv;
    uint8_t percent = CHARGE_UNKNOWN;
    if (mv >= BATTERY_FULL_MV) {
        percent = 100;
    } else if (mv >= BATTERY_LOW_MV) {
        percent = (uint8_t)((uint32_t)(mv - BATTERY_LOW_MV) * 100u / (BATTERY_FULL_MV - BATTERY_LOW_MV));
    } else if (mv > 0) {
        percent = 0;
    }
    answer->length = 4;
    put_u16(answer->payload, mv);
    answer->payload[2] = percent;
    answer->payload[3] = mv == 0 ? 0 : device->inputs.charger;
}

static void firmware(const struct device *device, struct packet *answer) {
    answer->length = 12;
    answer->payload[0] = device->identity.board;
    answer->payload[1] = device->identity.version[0];
    answer->payload[2] = device->identity.version[1];
    answer->payload[3] = device->identity.version[2];
    answer->payload[4] = PROTOCOL_VERSION;
    answer->payload[5] = PROTOCOL_VERSION;
    put_u16(answer->payload + 6, CAPABILITIES_ALL);
    put_u32(answer->payload + 8, device->identity.unit_number);
}

static void counters(const struct device *device, struct packet *answer) {
    answer->length = 2 * COUNTERS;
    for (uint8_t i = 0; i < COUNTERS; i++) {
        put_u16(answer->payload + 2 * i, device->counters[i]);
    }
}

static void update(struct device *device, const struct packet *command, struct packet *answer, uint32_t now_ms) {
    if (get_u32(command->payload) != UPDATE_KEY) {
        device_refuse(answer, NAK_VALUE, 0);
        return;
    }
    light_off(&device->light, OFF_UPDATE);
    device->is_updating = true;
    device->update_since_ms = now_ms;
    answer->length = 2;
    put_u16(answer->payload, UPDATE_WINDOW_MS);
}

void device_execute(struct device *device, const struct packet *command, struct packet *answer, uint32_t now_ms) {
    static const uint8_t lengths[] = {[OP_HELLO] = 2, [OP_ILLUMINATION] = 4, [OP_UPDATE] = 4};
    if (command->opcode < OP_HELLO || command->opcode > OP_UPDATE) {
        device_refuse(answer, NAK_OPCODE, command->opcode);
        return;
    }
    if (command->length != lengths[command->opcode]) {
        device_refuse(answer, NAK_LENGTH, command->length);
        return;
    }
    switch (command->opcode) {
        case OP_HELLO: hello(device, command, answer, now_ms); break;
        case OP_HEARTBEAT: heartbeat(device, answer, now_ms); break;
        case OP_ILLUMINATION: order_light(device, command, answer, now_ms); break;
        case OP_TEMPERATURE:
            answer->length = 2;
            put_u16(answer->payload, (uint16_t)device->inputs.temperature);
            break;
        case OP_BATTERY: battery(device, answer); break;
        case OP_FIRMWARE: firmware(device, answer); break;
        case OP_COUNTERS: counters(device, answer); break;
        default: update(device, command, answer, now_ms); break;
    }
}
