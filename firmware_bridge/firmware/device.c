#include "device.h"

#include "codes.h"

void device_init(struct device *device, const struct device_identity *identity, device_output output,
                 light_output light, void *context) {
    *device = (struct device){.identity = *identity, .output = output, .context = context, .event_sequence = 1};
    device->inputs.temperature = TEMPERATURE_ABSENT;
    light_init(&device->light, light, context);
}

static void count(struct device *device, enum counter counter) {
    if (device->counters[counter] < UINT16_MAX) {
        device->counters[counter]++;
    }
}

static void send(struct device *device, const struct packet *packet) {
    uint8_t wire[WIRE_MAX];
    if (packet->kind == KIND_NAK) {
        count(device, COUNT_NAKS);
    }
    device->output(device->context, wire, protocol_encode(packet, wire));
}

/* ---- commands ---- */

static struct packet answer_to(const struct packet *command) {
    return (struct packet){
        .kind = KIND_ACK, .opcode = command->opcode, .session = command->session, .sequence = command->sequence};
}

static void answer_foreign_session(struct device *device, const struct packet *command, uint32_t now_ms) {
    struct packet answer = answer_to(command);
    if (command->opcode != OP_HELLO || command->session == 0) {
        device_refuse(&answer, NAK_SESSION, 0);
        send(device, &answer);
    } else if (command->session == device->previous_session) {
        count(device, COUNT_STALE);
    } else {
        device_execute(device, command, &answer, now_ms);
        if (answer.kind == KIND_ACK) {
            device->answer = answer;
        }
        send(device, &answer);
    }
}

static void answer_command(struct device *device, const struct packet *command, uint32_t now_ms) {
    if (command->session == 0 || command->session != device->session) {
        answer_foreign_session(device, command, now_ms);
        return;
    }
    device->host_heard_ms = now_ms;
    uint16_t ahead = (uint16_t)(command->sequence - device->answer.sequence);
    if (ahead == 0) {
        count(device, COUNT_DUPLICATES);
    } else if (ahead < 0x8000u) {
        struct packet answer = answer_to(command);
        device_execute(device, command, &answer, now_ms);
        device->answer = answer;
    } else {
        count(device, COUNT_STALE);
        return;
    }
    send(device, &device->answer);
}

/* ---- events ---- */

static void queue_event(struct device *device, uint8_t opcode, uint8_t value, uint32_t since_ms) {
    if (device->session == 0) {
        return;
    }
    if (device->event_count == EVENT_QUEUE) {
        count(device, COUNT_EVENTS_DROPPED);
        return;
    }
    device->events[device->event_count++] = (struct event){.opcode = opcode, .value = value, .since_ms = since_ms};
}

static void drop_head(struct device *device) {
    for (uint8_t i = 1; i < device->event_count; i++) {
        device->events[i - 1] = device->events[i];
    }
    device->event_count--;
    /* An event that was never sent leaves no gap that the host could take for a loss on the line. */
    if (device->is_head_sent) {
        device->event_sequence++;
    }
    device->is_head_sent = false;
}

static void accept_event_ack(struct device *device, const struct packet *packet, uint32_t now_ms) {
    if (packet->session == 0 || packet->session != device->session) {
        return;
    }
    device->host_heard_ms = now_ms;
    if (device->is_head_sent && device->event_count > 0 && packet->sequence == device->event_sequence &&
        packet->opcode == device->events[0].opcode) {
        drop_head(device);
    }
}

static void send_events(struct device *device, uint32_t now_ms) {
    while (device->event_count > 0 && now_ms - device->events[0].since_ms > EVENT_MAX_AGE_MS) {
        count(device, COUNT_EVENTS_DROPPED);
        drop_head(device);
    }
    if (device->event_count == 0 ||
        (device->is_head_sent && now_ms - device->head_sent_ms < EVENT_REPEAT_MS)) {
        return;
    }
    const struct event *head = &device->events[0];
    struct packet packet = {.kind = KIND_EVENT, .opcode = head->opcode, .length = 4, .session = device->session,
                            .sequence = device->event_sequence};
    packet.payload[0] = head->value;
    put_u16(packet.payload + 2, (uint16_t)(now_ms - head->since_ms));
    device->is_head_sent = true;
    device->head_sent_ms = now_ms;
    send(device, &packet);
}

static void debounce(struct device *device, uint8_t bit_number, uint8_t level, uint32_t now_ms) {
    uint8_t bit = (uint8_t)(1u << bit_number);
    if (level == (device->pressed & bit)) {
        device->unsettled = (uint8_t)(device->unsettled & ~bit);
    } else if (!(device->unsettled & bit)) {
        device->unsettled |= bit;
        device->edge_ms[bit_number] = now_ms;
    } else if (now_ms - device->edge_ms[bit_number] >= DEBOUNCE_MS) {
        device->unsettled = (uint8_t)(device->unsettled & ~bit);
        device->pressed ^= bit;
        queue_event(device, (uint8_t)(OP_SHUTTER + bit_number), level ? 1 : 0, device->edge_ms[bit_number]);
    }
}

/* ---- the outside ---- */

static void answer_damage(struct device *device, uint32_t now_ms) {
    if (device->session == 0 ||
        (device->has_sent_corrupt_nak && now_ms - device->corrupt_nak_ms < CORRUPT_NAK_INTERVAL_MS)) {
        return;
    }
    struct packet nak = {.session = device->session, .sequence = device->answer.sequence};
    device_refuse(&nak, NAK_CORRUPT, 0);
    device->has_sent_corrupt_nak = true;
    device->corrupt_nak_ms = now_ms;
    send(device, &nak);
}

void device_receive(struct device *device, uint8_t byte, uint32_t now_ms) {
    struct packet packet;
    switch (protocol_decode(&device->decoder, byte, &packet)) {
        case DECODED_NOTHING:
            break;
        case DECODED_CORRUPT:
            count(device, COUNT_CORRUPT);
            answer_damage(device, now_ms);
            break;
        case DECODED_OVERSIZED:
            count(device, COUNT_OVERSIZED);
            answer_damage(device, now_ms);
            break;
        case DECODED_PACKET:
            count(device, COUNT_PACKETS);
            if (packet.kind == KIND_COMMAND) {
                answer_command(device, &packet, now_ms);
            } else if (packet.kind == KIND_EVENT_ACK) {
                accept_event_ack(device, &packet, now_ms);
            }
            break;
    }
}

void device_tick(struct device *device, const struct device_inputs *inputs, uint32_t now_ms) {
    device->inputs = *inputs;
    uint8_t buttons = inputs->are_dead ? 0 : inputs->buttons;
    for (uint8_t i = 0; i < INPUT_COUNT; i++) {
        debounce(device, i, (uint8_t)(buttons & (1u << i)), now_ms);
    }
    light_sense(&device->light, inputs->temperature, inputs->battery_mv);
    uint8_t reason = light_tick(&device->light, device->host_heard_ms, now_ms);
    if (reason != 0) {
        queue_event(device, OP_LIGHT_OFF, reason, now_ms);
    }
    if (device->is_updating && now_ms - device->update_since_ms >= UPDATE_WINDOW_MS) {
        device->is_updating = false;
    }
    send_events(device, now_ms);
}
