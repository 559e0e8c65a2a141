/* Replays a conversation from standard input against the core, without clock or line, for tests.
 *
 *   t <ms>                                    let so many milliseconds pass, one tick each
 *   h <hex>                                   bytes from the host
 *   i <buttons> <dead> <centi-C> <mV> <charger>   what the pins and sensors say from now on
 *   r                                         reset
 *   a <reading>                               ask the thermistor's table
 * answered, as they happen, by
 *   d <ms> <hex>                              bytes from the device
 *   l <ms> <mode> <level>                     the light changes
 *   a <centi-C>
 * The board is BOARD_SIMULATOR, unit 1, version 1.0.0, boot ids from 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codes.h"
#include "device.h"
#include "thermistor.h"

static uint32_t now_ms;

static void print_bytes(void *context, const uint8_t *bytes, uint8_t count) {
    (void)context;
    printf("d %" PRIu32 " ", now_ms);
    for (uint8_t i = 0; i < count; i++) {
        printf("%02x", bytes[i]);
    }
    putchar('\n');
}

static void print_light(void *context, uint8_t mode, uint8_t level) {
    (void)context;
    printf("l %" PRIu32 " %u %u\n", now_ms, mode, level);
}

static void boot(struct device *device, uint16_t boot_id) {
    struct device_identity identity = {
        .board = BOARD_SIMULATOR, .version = {1, 0, 0}, .reset_cause = boot_id == 1 ? 1 : 2, .boot_id = boot_id,
        .unit_number = 1};
    now_ms = 0;
    device_init(device, &identity, print_bytes, print_light, NULL);
}

static void receive_hex(struct device *device, const char *hex) {
    unsigned byte;
    while (sscanf(hex, "%2x", &byte) == 1) {
        device_receive(device, (uint8_t)byte, now_ms);
        hex += 2;
    }
}

int main(void) {
    static char line[1 << 16];
    struct device device;
    struct device_inputs inputs = {.temperature = TEMPERATURE_ABSENT};
    uint16_t boot_id = 1;
    boot(&device, boot_id);
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned buttons, dead, battery_mv, charger;
        int temperature;
        if (line[0] == 't') {
            for (unsigned long left = strtoul(line + 2, NULL, 10); left > 0; left--) {
                now_ms++;
                device_tick(&device, &inputs, now_ms);
            }
        } else if (line[0] == 'h') {
            receive_hex(&device, line + 2);
        } else if (line[0] == 'a') {
            printf("a %d\n", thermistor_temperature((uint16_t)atoi(line + 2)));
        } else if (line[0] == 'r') {
            boot(&device, ++boot_id);
        } else if (sscanf(line, "i %u %u %d %u %u", &buttons, &dead, &temperature, &battery_mv, &charger) == 5) {
            inputs = (struct device_inputs){.buttons = (uint8_t)buttons, .are_dead = dead != 0,
                                            .temperature = (int16_t)temperature,
                                            .battery_mv = (uint16_t)battery_mv, .charger = (uint8_t)charger};
        } else {
            fprintf(stderr, "not understood: %s", line);
            return 1;
        }
    }
    return 0;
}
