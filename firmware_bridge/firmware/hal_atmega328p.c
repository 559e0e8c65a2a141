/* Arduino Uno or Nano: ATmega328P at 16 MHz. Wiring: ../README.md.
 *
 * QEMU's arduino-uno has CPU, memories, UART and 16-bit timers only. Ports and ADC read 0 and there is no watchdog, so
 * there the self-test reports the inputs dead, the thermistor counts as shorted (light capped) and the battery as absent.
 * The watchdog is tested in the host build. */
#include <avr/eeprom.h>
#include <avr/interrupt.h>
#include <avr/io.h>
#include <util/atomic.h>

#include "codes.h"
#include "hal.h"
#include "thermistor.h"

enum { RING = 128, WHITE_PIN = PB3, ALIVE_PIN = PB5, POLARISED_PIN = PD3 };
enum { SHUTTER_PIN = PD2, FOOT_SWITCH_PIN = PD4, LENS_CONTACT_PIN = PD5, CHARGING_PIN = PD6, FULL_PIN = PD7 };
enum { CHANNEL_TEMPERATURE = 0, CHANNEL_BATTERY = 1, CHANNEL_BANDGAP = 14, CHANNELS = 3 };

#define BAUD_DIVIDER 16                    /* 115200 at 16 MHz, double speed; 2.1 % fast, as in Arduino's own core */
#define BANDGAP_MV 1100ul
#define BATTERY_PRESENT_MV 1000u           /* below it the divider hangs free */
#define UNIT_NUMBER_AT ((const uint32_t *)0)   /* EEPROM */

static volatile uint8_t ring[RING];
static volatile uint8_t ring_head;
static volatile uint8_t ring_tail;
static volatile uint32_t milliseconds;
static bool are_inputs_dead;
static bool has_watchdog;

/* Not cleared at start: after power-up they are arbitrary, after a reset the counter goes on. */
static uint16_t boot_counter __attribute__((section(".noinit")));
uint8_t reset_flags __attribute__((section(".noinit"), used));

/* The timed sequence that changes the watchdog; not avr-libc's, whose WDR instruction stops QEMU's processor. */
static inline __attribute__((always_inline)) void set_watchdog(uint8_t setting) {
    __asm__ volatile("sts %0, %1\n\tsts %0, %2"
                     : : "n"(_SFR_MEM_ADDR(WDTCSR)), "r"((uint8_t)(_BV(WDCE) | _BV(WDE))), "r"(setting));
}

/* Before main: a watchdog that has fired stays on at 16 ms. Optiboot has cleared MCUSR and left it in r2. */
void capture_reset(void) __attribute__((naked, used, section(".init3")));
void capture_reset(void) {
    __asm__ volatile("sts reset_flags, r2");
    if (MCUSR != 0) {
        reset_flags = MCUSR;
    }
    MCUSR = 0;
    set_watchdog(0);
}

ISR(USART_RX_vect) {
    uint8_t byte = UDR0;
    uint8_t next = (uint8_t)((ring_head + 1) % RING);
    if (next != ring_tail) {               /* a full ring loses bytes; the CRC notices */
        ring[ring_head] = byte;
        ring_head = next;
    }
}

ISR(TIMER1_COMPA_vect) {
    milliseconds++;
}

static void test_input_port(void) {
    DDRB |= _BV(ALIVE_PIN);
    PORTB |= _BV(ALIVE_PIN);
    __asm__ volatile("nop\nnop");          /* the pin's synchroniser takes a cycle */
    are_inputs_dead = !(PINB & _BV(ALIVE_PIN));
}

void hal_init(struct device_identity *identity) {
    PORTB &= (uint8_t)~_BV(WHITE_PIN);
    PORTD = _BV(SHUTTER_PIN) | _BV(FOOT_SWITCH_PIN) | _BV(LENS_CONTACT_PIN) | _BV(CHARGING_PIN) | _BV(FULL_PIN);
    DDRB |= _BV(WHITE_PIN);
    DDRD = _BV(POLARISED_PIN);
    TCCR2A = _BV(WGM21) | _BV(WGM20);      /* fast PWM, pins not yet connected */
    TCCR2B = _BV(CS21);                    /* 16 MHz / 8 / 256 = 7.8 kHz: no banding at camera exposures */
    TCCR1B = _BV(WGM12) | _BV(CS11) | _BV(CS10);
    OCR1A = 249;                           /* 16 MHz / 64 / 250 = 1 kHz */
    TIMSK1 = _BV(OCIE1A);
    UBRR0 = BAUD_DIVIDER;
    UCSR0A = _BV(U2X0);
    UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
    UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);
    ADCSRA = _BV(ADEN) | _BV(ADPS2) | _BV(ADPS1) | _BV(ADPS0);
    test_input_port();
    identity->board = BOARD_ATMEGA328P;
    identity->reset_cause = reset_flags & 0x0F;
    identity->boot_id = ++boot_counter;
    identity->unit_number = eeprom_read_dword(UNIT_NUMBER_AT);
    set_watchdog(_BV(WDE) | _BV(WDP2));    /* 250 ms, reset */
    has_watchdog = WDTCSR & _BV(WDE);
    sei();
}

uint32_t hal_now_ms(void) {
    uint32_t now_ms;
    ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
        now_ms = milliseconds;
    }
    return now_ms;
}

bool hal_read(uint8_t *byte) {
    if (ring_tail == ring_head) {
        return false;
    }
    *byte = ring[ring_tail];
    ring_tail = (uint8_t)((ring_tail + 1) % RING);
    return true;
}

void hal_write(const uint8_t *bytes, uint8_t count) {
    for (uint8_t i = 0; i < count; i++) {
        loop_until_bit_is_set(UCSR0A, UDRE0);
        UDR0 = bytes[i];
    }
}

void hal_light(uint8_t mode, uint8_t level) {
    uint8_t duty = (uint8_t)((uint16_t)level * 255u / 100u);
    /* A PWM duty of 0 still gives one spike a period: a dark ring is disconnected from the timer, its pin low. */
    if (mode == LIGHT_WHITE) {
        OCR2A = duty;
        TCCR2A = _BV(COM2A1) | _BV(WGM21) | _BV(WGM20);
    } else if (mode == LIGHT_POLARISED) {
        OCR2B = duty;
        TCCR2A = _BV(COM2B1) | _BV(WGM21) | _BV(WGM20);
    } else {
        TCCR2A = _BV(WGM21) | _BV(WGM20);
    }
}

/* Step through the channels, each converted twice: the first result after switching to the bandgap is wrong. */
static void sample(uint16_t results[CHANNELS]) {
    static const uint8_t channels[CHANNELS] = {CHANNEL_TEMPERATURE, CHANNEL_BATTERY, CHANNEL_BANDGAP};
    static uint8_t step;
    if (ADCSRA & _BV(ADSC)) {
        return;
    }
    if (step & 1u) {
        results[step / 2] = ADC;
    }
    step = (uint8_t)((step + 1) % (2 * CHANNELS));
    ADMUX = (uint8_t)(_BV(REFS0) | channels[step / 2]);
    ADCSRA |= _BV(ADSC);
}

static uint16_t battery_mv(uint16_t reading, uint16_t bandgap_reading) {
    if (bandgap_reading == 0) {
        return 0;
    }
    /* supply = 1100 mV * 1023 / bandgap; battery = 2 * supply * reading / 1023 (divider of two equal resistors) */
    uint32_t mv = 2ul * BANDGAP_MV * reading / bandgap_reading;
    return mv < BATTERY_PRESENT_MV || mv > UINT16_MAX ? 0 : (uint16_t)mv;
}

void hal_sense(struct device_inputs *inputs) {
    static uint16_t results[CHANNELS];
    uint8_t low = (uint8_t)~PIND;
    sample(results);
    inputs->are_dead = are_inputs_dead;
    inputs->buttons = (uint8_t)((low & _BV(SHUTTER_PIN) ? INPUT_SHUTTER : 0) |
                                (low & _BV(FOOT_SWITCH_PIN) ? INPUT_FOOT_SWITCH : 0) |
                                (low & _BV(LENS_CONTACT_PIN) ? INPUT_LENS_CONTACT : 0));
    inputs->temperature = thermistor_temperature(results[0]);
    inputs->battery_mv = battery_mv(results[1], results[2]);
    inputs->charger = low & _BV(CHARGING_PIN) ? 2 : low & _BV(FULL_PIN) ? 3 : 1;
}

void hal_kick_watchdog(void) {
    if (has_watchdog) {
        __asm__ volatile("wdr");
    }
}

void hal_sleep(void) {
    /* Awake always: 10 mA are nothing beside the LEDs, and QEMU 7.2 does not come back from SLEEP. */
}
