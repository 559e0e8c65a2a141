/* 10 kOhm NTC (B = 3950 K) to ground under 10 kOhm to the reference, read by a 10-bit ADC. */
#ifndef DERMSTATION_THERMISTOR_H
#define DERMSTATION_THERMISTOR_H

#include <stdint.h>

/* 0.01 C from a reading of 0 to 1023; TEMPERATURE_ABSENT when the sensor is broken, shorted or outside 0 to 90 C. */
int16_t thermistor_temperature(uint16_t reading);

#endif
