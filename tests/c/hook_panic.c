/*
 * A bug inside the library, injected: it costs the one connection, whose on_close says AHOY_ERR_PANIC; it
 * is counted and logged; and everybody else is served on.
 */
#include "hooks.h"
#include "support.h"

#include <unistd.h>

enum { OTHERS = 10 };

static tally seen = TALLY_INIT;
static latch logged = LATCH_INIT;
static char log_text[512];

static void on_log(int32_t level, const char *message, void *user) {
    (void)user;
    CHECK_EQ(level, AHOY_LOG_ERROR);
    snprintf(log_text, sizeof log_text, "%s", message);
    latch_add(&logged, 1);
}

static void echo_round(int fd) {
    char echo[4];
    send_all(fd, "echo", 4);
    recv_exact(fd, echo, 4);
    CHECK(memcmp(echo, "echo", 4) == 0);
}

static void costs_one_connection(int32_t workers) {
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = workers, .user = &seen,
                                       .on_open = tally_open, .on_message = tally_echo,
                                       .on_close = tally_close, .on_free = tally_free));
    int fds[OTHERS];
    char byte;
    for (int i = 0; i < OTHERS; i++) {
        fds[i] = dial(server);
        echo_round(fds[i]);
    }
    for (int round = 1; round <= 5; round++) {
        long messages = latch_count(&seen.messages), logs = latch_count(&logged);
        int victim = dial(server);
        echo_round(victim);
        ahoy_test_panic(0);
        send_all(victim, "boom", 4);
        ssize_t got = recv_until_eof(victim, &byte, 1);
        CHECK(got == 0 || got < 0);
        latch_wait(&seen.closed, round);
        CHECK_STATUS(seen.reason, AHOY_ERR_PANIC);
        CHECK_EQ(latch_count(&seen.messages), messages + 1);
        latch_wait(&logged, logs + 1);
        CHECK(strlen(log_text) > 0);
        WAIT_UNTIL(stats_of(server).panics == (uint64_t)round);
        close(victim);
        for (int i = 0; i < OTHERS; i++) echo_round(fds[i]);
    }
    /* The handle table, the counts and the end are as good as before. */
    WAIT_UNTIL(stats_of(server).closed == 5);
    CHECK_EQ(stats_of(server).connections, OTHERS);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.opened), OTHERS + 5);
    CHECK_EQ(latch_count(&seen.closed), OTHERS + 5);
    CHECK_EQ(latch_count(&seen.freed), 1);
    for (int i = 0; i < OTHERS; i++) close(fds[i]);
}

int main(void) {
    CHECK_OK(ahoy_log_set(AHOY_LOG_ERROR, on_log, NULL));
    costs_one_connection(1);
    costs_one_connection(2);
    CHECK_OK(ahoy_log_set(AHOY_LOG_OFF, NULL, NULL));
    return 0;
}
