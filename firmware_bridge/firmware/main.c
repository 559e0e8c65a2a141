/* The loop of every target: bytes in, one tick a millisecond, watchdog. */
#include "codes.h"
#include "hal.h"

static void write_line(void *context, const uint8_t *bytes, uint8_t count) {
    (void)context;
    hal_write(bytes, count);
}

static void drive_light(void *context, uint8_t mode, uint8_t level) {
    (void)context;
    hal_light(mode, level);
}

int main(void) {
    static struct device device;
    static struct device_inputs inputs = {.temperature = TEMPERATURE_ABSENT};
    struct device_identity identity = {.version = {1, 0, 0}};
    hal_init(&identity);
    device_init(&device, &identity, write_line, drive_light, NULL);
    uint32_t ticked_ms = hal_now_ms();
    for (;;) {
        /* At most one ring of bytes between two ticks: a flood must not keep the light's limits from being looked at. */
        uint8_t byte;
        for (uint8_t budget = 64; budget > 0 && hal_read(&byte); budget--) {
            device_receive(&device, byte, hal_now_ms());
        }
        uint32_t now_ms = hal_now_ms();
        if (now_ms != ticked_ms) {
            ticked_ms = now_ms;
            hal_sense(&inputs);
            device_tick(&device, &inputs, now_ms);
        }
        hal_kick_watchdog();
        hal_sleep();
    }
}
