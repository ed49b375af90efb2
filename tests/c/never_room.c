/*
 * A send that no amount of room will ever take is told so: AHOY_ERR_TOO_LONG, or the limits are refused at
 * the start. It is never AHOY_ERR_AGAIN, which would be answered by on_writable for ever.
 */
#include "support.h"

#include <unistd.h>

static tally seen = TALLY_INIT;

static void try_limits(uint64_t total, uint32_t queue, size_t len, int32_t workers) {
    static char bytes[1 << 20];
    ahoy_server server = { 0 };
    seen = (tally)TALLY_INIT;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = workers, .user = &seen,
                                          .greeting = "g", .queue_bytes_max = queue,
                                          .queue_total_bytes_max = total, .on_open = tally_open,
                                          .on_message = tally_message,
                                          .on_writable = tally_writable);
    ahoy_status status = ahoy_server_start(&options, &server);
    if (status) {
        CHECK(status == AHOY_ERR_INVALID || status == AHOY_ERR_TOO_LONG);
        return;
    }
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    status = ahoy_send(tally_conn(&seen), bytes, len);
    if (status == AHOY_OK) {
        recv_exact(fd, bytes, len); /* there was room after all */
    } else if (status == AHOY_ERR_AGAIN) {
        /* Then it must come through in the end. */
        for (int tries = 0; status == AHOY_ERR_AGAIN; tries++) {
            CHECK(tries < 3);
            latch_wait(&seen.writable, tries + 1);
            status = ahoy_send(tally_conn(&seen), bytes, len);
        }
        CHECK_OK(status);
    } else {
        CHECK_STATUS(status, AHOY_ERR_TOO_LONG);
        CHECK_EQ(latch_count(&seen.writable), 0);
    }
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    for (int32_t workers = 1; workers <= 4; workers += 3) {
        try_limits(1000, 0, 1001, workers);
        try_limits(1000, 0, 1000, workers);
        try_limits(1000, 900, 900, workers);
        try_limits(100000, 0, 200000, workers);
        try_limits(100000, 0, 99999, workers);
        try_limits(1 << 20, 1 << 20, 1 << 20, workers);
    }
    return 0;
}
