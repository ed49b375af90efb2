/*
 * What accept4 may answer: for want of descriptors or memory the listener rests 100 ms and goes on; a
 * client that gave up meanwhile is counted and skipped; an interruption is nothing at all.
 */
#include "hooks.h"
#include "support.h"

#include <errno.h>
#include <unistd.h>

static tally seen = TALLY_INIT;
static ahoy_server server;

static void served(void) {
    char answer[17];
    int fd = dial(server);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
    close(fd);
}

static void rests(int error) {
    uint64_t before = stats_of(server).rests, aborted = stats_of(server).aborted;
    long begin = now_ms();
    ahoy_test_fail("accept4", error, 0, 3);
    served();
    ahoy_test_fail("accept4", 0, 0, 0);
    CHECK_EQ(stats_of(server).rests, before + 3);
    CHECK_EQ(stats_of(server).aborted, aborted);
    CHECK(now_ms() - begin >= 3 * 100 - 30); /* the wheel of timers has teeth */
}

static void skips(int error, bool counted) {
    uint64_t before = stats_of(server).aborted, rests = stats_of(server).rests;
    ahoy_test_fail("accept4", error, 0, 3);
    served();
    ahoy_test_fail("accept4", 0, 0, 0);
    CHECK_EQ(stats_of(server).aborted, before + (counted ? 3 : 0));
    CHECK_EQ(stats_of(server).rests, rests);
}

/* A listener that rests does not keep the others of its server from their work. */
static void one_rests_the_connected_work_on(void) {
    char echo[4];
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    ahoy_test_fail("accept4", EMFILE, 0, -1);
    int waiting = dial(server);
    uint64_t before = stats_of(server).rests;
    WAIT_UNTIL(stats_of(server).rests >= before + 2);
    for (int i = 0; i < 10; i++) {
        send_all(fd, "echo", 4);
        recv_exact(fd, echo, 4);
    }
    CHECK_EQ(latch_count(&seen.opened), 1);
    ahoy_test_fail("accept4", 0, 0, 0);
    latch_wait(&seen.opened, 2);
    close(fd);
    close(waiting);
}

static void stopped_while_it_rests(void) {
    ahoy_test_fail("accept4", ENFILE, 0, -1);
    int waiting = dial(server);
    uint64_t before = stats_of(server).rests;
    WAIT_UNTIL(stats_of(server).rests > before);
    ahoy_server_free(server);
    ahoy_test_fail("accept4", 0, 0, 0);
    close(waiting);
}

int main(void) {
    holdings before = holdings_now();
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 1)); /* workers rest each for itself */
    rests(EMFILE), rests(ENFILE), rests(ENOBUFS), rests(ENOMEM);
    skips(ECONNABORTED, true), skips(EPROTO, true);
    skips(EINTR, false);
    ahoy_server_free(server);

    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                           .on_message = tally_echo));
    one_rests_the_connected_work_on();
    stopped_while_it_rests();
    CHECK_HOLDINGS(before);
    return 0;
}
