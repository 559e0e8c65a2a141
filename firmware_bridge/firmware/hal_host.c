/* The firmware as a program on the host: its line is a pty, its reset an exec, its watchdog a timer.
 *
 * Prints "pty <path>" once and "l <mode> <level>" whenever the light changes. On standard input, a line each:
 * "i <buttons> <dead> <centi-C> <mV> <charger>", "x" resets, "z" hangs; its end ends the program. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "codes.h"
#include "hal.h"

enum { WATCHDOG_MS = 250, RESET_EXTERNAL = 2, RESET_WATCHDOG = 8, ENTRIES = 256 };

static int line = -1;
static struct timespec booted;
static struct device_inputs pins = {.temperature = TEMPERATURE_ABSENT};
/* Prepared ahead: the watchdog's signal handler may only exec. */
static char state[2][64];
static char *environments[2][ENTRIES];

static void reset(int index) {
    /* The timer would outlive the exec, and kill the new program before it knows what to do with it. */
    const struct itimerval never = {.it_value = {0}};
    setitimer(ITIMER_REAL, &never, NULL);
    char *arguments[] = {"firmware", NULL};
    execve("/proc/self/exe", arguments, environments[index]);
    _exit(70);
}

static void watchdog_fires(int number) {
    (void)number;
    reset(1);
}

static void open_line(void) {
    line = posix_openpt(O_RDWR | O_NOCTTY);
    if (line < 0 || grantpt(line) != 0 || unlockpt(line) != 0) {
        perror("pty");
        exit(74);
    }
    /* Held open, so that the line lives on while no host has it open; raw, or the kernel would echo. */
    int held = open(ptsname(line), O_RDWR | O_NOCTTY);
    struct termios raw;
    tcgetattr(held, &raw);
    cfmakeraw(&raw);
    tcsetattr(held, TCSANOW, &raw);
    fcntl(line, F_SETFL, O_NONBLOCK);
    printf("pty %s\n", ptsname(line));
}

static void prepare_reset(unsigned boot_id) {
    extern char **environ;
    static const unsigned causes[2] = {RESET_EXTERNAL, RESET_WATCHDOG};
    for (int index = 0; index < 2; index++) {
        int used = 0;
        for (char **entry = environ; *entry != NULL && used < ENTRIES - 2; entry++) {
            if (strncmp(*entry, "DERMSTATION_FIRMWARE=", 21) != 0) {
                environments[index][used++] = *entry;
            }
        }
        snprintf(state[index], sizeof state[index], "DERMSTATION_FIRMWARE=%d %u %u", line, boot_id, causes[index]);
        environments[index][used] = state[index];
    }
}

void hal_init(struct device_identity *identity) {
    const char *inherited = getenv("DERMSTATION_FIRMWARE");
    unsigned boot_id = 0;
    unsigned cause = 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (inherited == NULL || sscanf(inherited, "%d %u %u", &line, &boot_id, &cause) != 3) {
        open_line();
    }
    boot_id = (boot_id + 1) & 0xFFFFu;
    prepare_reset(boot_id);
    sigset_t none;
    sigemptyset(&none);
    signal(SIGALRM, watchdog_fires);
    sigprocmask(SIG_SETMASK, &none, NULL);   /* after an exec from the handler the alarm is still blocked */
    fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
    clock_gettime(CLOCK_MONOTONIC, &booted);
    identity->board = BOARD_HOST;
    identity->reset_cause = (uint8_t)cause;
    identity->boot_id = (uint16_t)boot_id;
    identity->unit_number = 1;
    hal_kick_watchdog();
}

uint32_t hal_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((now.tv_sec - booted.tv_sec) * 1000 + (now.tv_nsec - booted.tv_nsec) / 1000000);
}

bool hal_read(uint8_t *byte) {
    static uint8_t buffer[64];
    static ssize_t filled;
    static ssize_t taken;
    if (taken >= filled) {
        filled = read(line, buffer, sizeof buffer);
        taken = 0;
        if (filled <= 0) {
            return false;
        }
    }
    *byte = buffer[taken++];
    return true;
}

void hal_write(const uint8_t *bytes, uint8_t count) {
    if (write(line, bytes, count) < 0) {
        return;                            /* nobody reads and the buffer is full: a UART would lose them too */
    }
}

void hal_light(uint8_t mode, uint8_t level) {
    printf("l %u %u\n", mode, level);
}

static void obey(const char *order) {
    unsigned buttons, dead, battery_mv, charger;
    int temperature;
    if (order[0] == 'x') {
        reset(0);
    } else if (order[0] == 'z') {
        for (;;) {
            pause();
        }
    } else if (sscanf(order, "i %u %u %d %u %u", &buttons, &dead, &temperature, &battery_mv, &charger) == 5) {
        pins = (struct device_inputs){.buttons = (uint8_t)buttons, .are_dead = dead != 0,
                                      .temperature = (int16_t)temperature, .battery_mv = (uint16_t)battery_mv,
                                      .charger = (uint8_t)charger};
    }
}

void hal_sense(struct device_inputs *inputs) {
    static char order[80];
    static size_t length;
    char byte;
    ssize_t got;
    while ((got = read(STDIN_FILENO, &byte, 1)) == 1) {
        if (byte == '\n') {
            order[length] = '\0';
            length = 0;
            obey(order);
        } else if (length < sizeof order - 1) {
            order[length++] = byte;
        }
    }
    if (got == 0) {
        exit(0);
    }
    *inputs = pins;
}

void hal_kick_watchdog(void) {
    const struct itimerval due = {.it_value = {.tv_usec = WATCHDOG_MS * 1000}};
    setitimer(ITIMER_REAL, &due, NULL);
}

void hal_sleep(void) {
    struct pollfd wanted = {.fd = line, .events = POLLIN};
    poll(&wanted, 1, 1);
}
