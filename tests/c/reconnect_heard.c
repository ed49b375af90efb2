/*
 * A peer that has sent something was alive: the tries begin anew. One that takes the connection and drops it without a
 * word does not count as alive, however often it is there.
 */
#include "remote.h"

#include <poll.h>
#include <unistd.h>

enum { TRIES = 4, DROPS = 5 * TRIES };

static tally seen;
static latch down;
static remote far;

static void on_down(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)user;
    CHECK(reason == AHOY_ERR_EOF || reason == AHOY_ERR_RESET);
    latch_add(&down, 1);
}

static ahoy_server begin(void) {
    seen = (tally)TALLY_INIT, down = (latch)LATCH_INIT;
    far = remote_listening();
    ahoy_server server = start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = tally_close));
    outgoing(server, far.url, CONNECT_OPTIONS(.on_down = on_down, .reconnect = 1, .reconnect_min_ms = 1,
                                              .reconnect_max_ms = 1, .reconnect_tries_max = TRIES));
    return server;
}

/* Takes one connection and drops it. */
static void drop_one(const char *word) {
    int fd = remote_accept(&far);
    send_all(fd, word, strlen(word));
    close(fd);
}

static void speaks(void) {
    ahoy_server server = begin();
    for (long i = 1; i <= DROPS; i++) {
        drop_one("word");
        latch_wait(&down, i);
    }
    latch_wait(&seen.opened, DROPS + 1);
    CHECK_EQ(latch_count(&seen.bytes), DROPS * 4);
    CHECK_EQ(latch_count(&seen.closed), 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&down), DROPS);
    CHECK_STATUS(seen.reason, AHOY_ERR_STOPPED);
    remote_end(&far);
}

static void says_nothing(void) {
    ahoy_server server = begin();
    long drops = 0;
    while (drops < TRIES) drop_one(""), drops++;
    /* This many may be lost; whether the first one counts is a matter of taste. */
    struct pollfd more = { .fd = far.listener, .events = POLLIN };
    while (latch_count(&seen.closed) == 0) {
        if (poll(&more, 1, 1) == 1) drop_one(""), drops++;
    }
    CHECK(drops <= TRIES + 1);
    CHECK(seen.reason == AHOY_ERR_EOF || seen.reason == AHOY_ERR_RESET);
    CHECK_EQ(latch_count(&seen.opened), drops);
    CHECK_EQ(latch_count(&down), drops - 1);
    CHECK_EQ(latch_count(&seen.messages), 0);
    ahoy_server_free(server);
    remote_end(&far);
}

int main(void) {
    holdings before = holdings_now();
    speaks();
    says_nothing();
    CHECK_HOLDINGS(before);
    return 0;
}
