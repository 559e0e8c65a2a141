/* What a target must give: one file a target (hal_atmega328p.c, hal_host.c). */
#ifndef DERMSTATION_HAL_H
#define DERMSTATION_HAL_H

#include "device.h"

/* Bring the board up with the light off, start the watchdog and say what is known at boot. */
void hal_init(struct device_identity *identity);

/* Milliseconds since boot. */
uint32_t hal_now_ms(void);

/* Take one received byte; false when there is none. */
bool hal_read(uint8_t *byte);

/* Send all bytes, or lose them if nobody takes them; never block longer than they last on the line. */
void hal_write(const uint8_t *bytes, uint8_t count);

void hal_light(uint8_t mode, uint8_t level);
void hal_sense(struct device_inputs *inputs);

/* To be called from the main loop only: an interrupt would keep a hung program alive. */
void hal_kick_watchdog(void);

/* Rest until a byte comes or the millisecond is over. */
void hal_sleep(void);

#endif
