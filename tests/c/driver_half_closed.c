/*
 * A peer that has ended its side and takes nothing: its deadline comes as for any other, and the worker does not spin
 * until then. One that takes, late, gets all.
 */
#include "support.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_BYTES = 16 << 20, WRITE_MS = 1000 };

static tally seen;

static double cpu_seconds(void) {
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void on_end(ahoy_conn conn, void *user) {
    static char answer[ANSWER_BYTES];
    pattern_fill(answer, sizeof answer, 0);
    CHECK_OK(ahoy_send(conn, answer, sizeof answer));
    tally_end(conn, user);
}

/* Someone who has sent, and ended its side; and the server has answered. */
static int asked(ahoy_server server) {
    int fd = dial(server);
    send_all(fd, "x", 1);
    CHECK(!shutdown(fd, SHUT_WR));
    latch_wait(&seen.ended, 1);
    return fd;
}

static ahoy_server begin(int32_t driver, uint32_t write_ms) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen, .driver = driver, .write_ms = write_ms,
                         .queue_bytes_max = 2 * ANSWER_BYTES, .message_bytes_max = ANSWER_BYTES, .on_message = tally_message, .on_end = on_end,
                         .on_close = tally_close));
}

static void takes_nothing(int32_t driver) {
    ahoy_server server = begin(driver, WRITE_MS);
    int fd = asked(server);
    double busy = cpu_seconds();
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    /* Who spins would have burnt all of the second. */
    if (!is_slow()) CHECK(cpu_seconds() - busy < 0.3);
    close(fd);
    ahoy_server_free(server);
}

static void takes_late(int32_t driver) {
    static char answer[ANSWER_BYTES];
    ahoy_server server = begin(driver, 0);
    int fd = asked(server);
    WAIT_UNTIL(stats_of(server).bytes_out > 0);
    recv_exact(fd, answer, sizeof answer);
    CHECK(pattern_matches(answer, sizeof answer, 0));
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
}

int main(void) {
    takes_nothing(AHOY_DRIVER_EPOLL), takes_late(AHOY_DRIVER_EPOLL);
    need_uring();
    takes_nothing(AHOY_DRIVER_URING), takes_late(AHOY_DRIVER_URING);
    return 0;
}
