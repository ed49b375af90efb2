/*
 * A message that would come a thousand times a second comes ten times; the others are counted. What is quiet is not
 * held back by what is loud.
 */
#include "support.h"

#include <unistd.h>

enum { MAX = 10, FLOOD = 300 };

static atomic_long warnings, others;
static latch informed = LATCH_INIT;

static void on_log(int32_t level, const char *message, void *user) {
    (void)message, (void)user;
    if (level == AHOY_LOG_WARN) warnings++;
    else others++;
    if (level == AHOY_LOG_INFO) latch_add(&informed, 1);
}

/* What the metrics tell of it, for the whole process. */
static long held_back(ahoy_server server) {
    static char text[16384];
    CHECK_OK(ahoy_metrics_text(server, text, sizeof text, NULL));
    const char *at = strstr(text, "\nahoy_log_held_back_total ");
    CHECK(at != NULL);
    return atol(strchr(at + 1, ' '));
}

/* Each is one over the limit of connections, which is a warning. */
static void flood(ahoy_server server) {
    uint64_t before = stats_of(server).refused;
    for (int i = 0; i < FLOOD; i++) {
        char byte;
        int fd = dial(server);
        CHECK(recv_until_eof(fd, &byte, 1) <= 0);
        close(fd);
    }
    WAIT_UNTIL(stats_of(server).refused == before + FLOOD);
}

int main(void) {
    tally seen = TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .connections_max = 1,
                                       .on_open = tally_open, .on_message = tally_message));
    int holder = dial(server);
    latch_wait(&seen.opened, 1);
    CHECK_EQ(held_back(server), 0);
    CHECK_OK(ahoy_log_set(AHOY_LOG_INFO, on_log, NULL));

    long begin = now_ms();
    flood(server);
    long seconds = (now_ms() - begin) / 1000 + 2; /* as many as it can have touched */
    CHECK(warnings >= MAX);
    CHECK(warnings <= MAX * seconds);
    CHECK_EQ(warnings + held_back(server), FLOOD);

    /* Other messages come, though this one is held back. */
    long before = others;
    ahoy_server_free(start(OPTIONS(.listen = LOOPBACK, .workers = 1)));
    CHECK(others >= before + 2); /* its start and its stop */

    /* When the second is over it comes again. */
    long again = warnings;
    WAIT_UNTIL((flood(server), warnings > again));
    CHECK_OK(ahoy_log_set(AHOY_LOG_OFF, NULL, NULL));
    close(holder);
    ahoy_server_free(server);
    return 0;
}
