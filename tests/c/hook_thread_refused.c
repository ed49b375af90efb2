/*
 * The system gives no thread: the start answers AHOY_ERR_THREAD, the threads that were already there end,
 * and nothing is left. Servers that run do not notice; one without threads can still be started.
 */
#include "hooks.h"
#include "support.h"

#include <errno.h>
#include <unistd.h>

int main(void) {
    tally seen = TALLY_INIT;
    ahoy_server running = start(OPTIONS(.listen = LOOPBACK, .workers = 1));
    holdings before = holdings_now();

    for (int skip = 0; skip < 8; skip++) {
        ahoy_server server = { 77 };
        ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 8, .on_free = tally_free,
                                              .user = &seen);
        ahoy_test_fail("spawn", EAGAIN, skip, -1);
        CHECK_STATUS(ahoy_server_start(&options, &server), AHOY_ERR_THREAD);
        CHECK(strlen(ahoy_last_error()) > 0);
        CHECK_EQ(server.id, 77);
        CHECK_EQ(latch_count(&seen.freed), 0);
        CHECK_HOLDINGS(before);
    }

    /* Still no thread to be had. */
    ahoy_server loop = start(OPTIONS(.listen = LOOPBACK, .workers = AHOY_WORKERS_NONE));
    CHECK_OK(ahoy_server_turn(loop, 0));
    ahoy_server_free(loop);
    char answer[17];
    int fd = dial(running);
    send_all(fd, "hi", 2);
    CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
    close(fd);

    ahoy_test_fail("spawn", 0, 0, 0);
    ahoy_server_free(start(OPTIONS(.listen = LOOPBACK, .workers = 8)));
    CHECK_HOLDINGS(before);
    ahoy_server_free(running);
    return 0;
}
