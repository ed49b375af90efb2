/*
 * What the system may answer while a connection is being opened: each error has its reason, a list goes on to its next
 * entry, a reconnecting connection tries again; and no descriptor is left.
 */
#include "hooks.h"
#include "remote.h"

#include <errno.h>

static tally seen;
static latch down;
static _Atomic ahoy_status down_reason;
static remote far;
static ahoy_server server;

static void on_down(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)user;
    down_reason = reason;
    latch_add(&down, 1);
}

static void echo_and_close(ahoy_conn conn) {
    CHECK_OK(ahoy_send(conn, "echo", 4));
    latch_wait(&seen.bytes, 4);
    CHECK_EQ(latch_count(&seen.opened), 1);
    CHECK_OK(ahoy_conn_close(conn));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
}

static void begin(void) {
    seen = (tally)TALLY_INIT, down = (latch)LATCH_INIT;
}

/* The call fails once. */
static void fails(const char *call, int error, ahoy_status reason) {
    char list[160];
    begin();
    int descriptors = descriptors_open();
    ahoy_test_fail(call, error, 0, 1);
    outgoing(server, far.url, CONNECT_OPTIONS(0));
    latch_wait(&seen.closed, 1);
    if (seen.reason != reason) fprintf(stderr, "%s: %s\n", call, strerror(error));
    CHECK_STATUS(seen.reason, reason);
    CHECK_EQ(latch_count(&seen.opened), 0);
    WAIT_UNTIL(descriptors_open() == descriptors);

    /* Another entry stands in for it. */
    begin();
    snprintf(list, sizeof list, "%s,%s", far.url, far.url);
    ahoy_test_fail(call, error, 0, 1);
    echo_and_close(outgoing(server, list, CONNECT_OPTIONS(0)));
    CHECK(ahoy_test_calls(call) >= 2);

    /* It is tried again. */
    begin();
    ahoy_test_fail(call, error, 0, 2);
    ahoy_conn conn = outgoing(server, far.url, CONNECT_OPTIONS(.on_down = on_down, .reconnect = 1,
                                                               .reconnect_min_ms = 1, .reconnect_max_ms = 1));
    echo_and_close(conn);
    CHECK_EQ(latch_count(&down), 2);
    CHECK_STATUS(down_reason, reason);
    ahoy_test_fail(call, 0, 0, 0);
    WAIT_UNTIL(descriptors_open() == descriptors);
}

/* The call fails, and nobody notices. */
static void passes(const char *call, int error) {
    begin();
    ahoy_test_fail(call, error, 0, 1);
    echo_and_close(outgoing(server, far.url, CONNECT_OPTIONS(0)));
    ahoy_test_fail(call, 0, 0, 0);
}

/* It cannot be watched: over, with whatever reason, and the socket is closed. */
static void not_watched(int error) {
    begin();
    int descriptors = descriptors_open();
    ahoy_test_fail("epoll_ctl", error, 0, 1);
    outgoing(server, far.url, CONNECT_OPTIONS(0));
    latch_wait(&seen.closed, 1);
    ahoy_test_fail("epoll_ctl", 0, 0, 0);
    CHECK(seen.reason != AHOY_OK && seen.reason != AHOY_ERR_TIMEOUT);
    WAIT_UNTIL(descriptors_open() == descriptors);
    begin();
    echo_and_close(outgoing(server, far.url, CONNECT_OPTIONS(0)));
}

/* There is no thread to look a name up on: the next entry has a number. */
static void no_thread_for_names(void) {
    char list[160];
    begin();
    ahoy_test_fail("spawn", EAGAIN, 0, 1);
    outgoing(server, "tcp://nobody.invalid:1", CONNECT_OPTIONS(0));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_THREAD);
    begin();
    snprintf(list, sizeof list, "tcp://nobody.invalid:1,%s", far.url);
    ahoy_test_fail("spawn", EAGAIN, 0, 1);
    echo_and_close(outgoing(server, list, CONNECT_OPTIONS(0)));
    CHECK(ahoy_test_calls("spawn") > 0);
    ahoy_test_fail("spawn", 0, 0, 0);
}

int main(void) {
    holdings before = holdings_now();
    far = remote_process(true);
    seen = (tally)TALLY_INIT;
    server = start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open, .on_message = tally_message,
                           .on_close = tally_close));
    fails("socket", EMFILE, AHOY_ERR_DESCRIPTORS);
    fails("socket", ENFILE, AHOY_ERR_DESCRIPTORS);
    fails("socket", ENOBUFS, AHOY_ERR_MEMORY);
    fails("socket", EAFNOSUPPORT, AHOY_ERR_UNREACHABLE);
    fails("connect", ECONNREFUSED, AHOY_ERR_REFUSED);
    fails("connect", ENETUNREACH, AHOY_ERR_UNREACHABLE);
    fails("connect", EHOSTUNREACH, AHOY_ERR_UNREACHABLE);
    fails("connect", EADDRNOTAVAIL, AHOY_ERR_UNREACHABLE);
    fails("connect", ETIMEDOUT, AHOY_ERR_TIMEOUT);
    fails("connect", EACCES, AHOY_ERR_PERMISSION);
    fails("connect", ECONNRESET, AHOY_ERR_RESET);
    fails("connect", EIO, AHOY_ERR_SYSTEM);
    passes("epoll_wait", EINTR);
    not_watched(ENOSPC);
    not_watched(ENOMEM);
    no_thread_for_names();
    ahoy_server_free(server);

    /* ahoy_request makes the same calls. */
    ahoy_test_fail("socket", EMFILE, 0, 1);
    CHECK_STATUS(ahoy_request(far.url, NULL, "x", 1, NULL, 0, NULL), AHOY_ERR_DESCRIPTORS);
    ahoy_test_fail("socket", 0, 0, 0);
    ahoy_test_fail("connect", EHOSTUNREACH, 0, 1);
    CHECK_STATUS(ahoy_request(far.url, NULL, "x", 1, NULL, 0, NULL), AHOY_ERR_UNREACHABLE);
    ahoy_test_fail("connect", 0, 0, 0);
    ahoy_test_fail("poll", EINTR, 0, 3);
    CHECK_OK(ahoy_request(far.url, NULL, "x", 1, NULL, 0, NULL));
    ahoy_test_fail("poll", 0, 0, 0);
    remote_end(&far);
    CHECK_HOLDINGS(before);
    return 0;
}
