/*
 * Sends leave in the order of the calls, also across threads: what one thread was told is queued goes before
 * what another sends, or closes, after it has heard of that.
 */
#include "support.h"

#include <unistd.h>

static tally seen;
static latch inside, told;
static bool then_close;

/* Waits inside the callback until the other thread's send was accepted, then comes second. */
static void come_second(ahoy_conn conn, const void *data, size_t len, void *user) {
    latch_add(&inside, 1);
    latch_wait(&told, 1);
    if (then_close) CHECK_OK(ahoy_conn_close(conn));
    else CHECK_OK(ahoy_send(conn, "B", 1));
    tally_message(conn, data, len, user);
}

static void order(bool owned, bool close_after) {
    char got[8] = "";
    seen = (tally)TALLY_INIT;
    inside = told = (latch)LATCH_INIT;
    then_close = close_after;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .user = &seen,
                                       .on_open = tally_open, .on_message = come_second,
                                       .on_close = tally_close));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    send_all(fd, "go", 2);
    latch_wait(&inside, 1);
    if (owned) CHECK_OK(ahoy_send_owned(tally_conn(&seen), "A", 1, NULL, NULL));
    else CHECK_OK(ahoy_send(tally_conn(&seen), "A", 1));
    latch_add(&told, 1);

    if (close_after) {
        /* What was accepted before the close is out before it, or counted. */
        CHECK_EQ(recv_until_eof(fd, got, sizeof got), 1);
        CHECK_TEXT(got, "A");
        latch_wait(&seen.closed, 1);
        CHECK_STATUS(seen.reason, AHOY_OK);
        CHECK_EQ(stats_of(server).bytes_cut, 0);
    } else {
        recv_exact(fd, got, 2);
        CHECK_TEXT(got, "AB");
    }
    close(fd);
    ahoy_server_free(server);
}

int main(void) {
    for (int variant = 0; variant < 4; variant++) order(variant & 1, variant & 2);
    return 0;
}
