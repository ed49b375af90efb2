/*
 * Where no way leads, a connection is over at once: AHOY_ERR_UNREACHABLE. A list goes on to its next entry. The
 * program gives itself a network without any route.
 */
#include "remote.h"

#include <sched.h>
#include <unistd.h>

static tally served = TALLY_INIT, seen = TALLY_INIT;

int main(void) {
    if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET)) skip_test("no network of its own permitted");
    holdings before = holdings_now();
    const char *far_url = abstract_url(); /* works without a network */
    ahoy_server far = start(OPTIONS(.listen = far_url, .workers = 1, .user = &served, .on_message = tally_echo));
    ahoy_server near = start(OPTIONS(.workers = 1, .user = &seen, .on_open = tally_open,
                                     .on_message = tally_message, .on_close = tally_close));

    const char *const urls[] = { "tcp://127.0.0.1:80", "tcp://[fd00::1]:80", "tcp://[fd00::1]:80,tcp://127.0.0.1:80" };
    for (long i = 0; i < 3; i++) {
        outgoing(near, urls[i], CONNECT_OPTIONS(0));
        latch_wait(&seen.closed, i + 1);
        CHECK_STATUS(seen.reason, AHOY_ERR_UNREACHABLE);
    }
    CHECK_EQ(latch_count(&seen.opened), 0);

    char list[256];
    snprintf(list, sizeof list, "tcp://127.0.0.1:80,%s", far_url);
    CHECK_OK(ahoy_send(outgoing(near, list, CONNECT_OPTIONS(0)), "echo", 4));
    latch_wait(&seen.bytes, 4);

    size_t received = 77;
    CHECK_STATUS(ahoy_request("tcp://127.0.0.1:80", NULL, "x", 1, NULL, 0, &received), AHOY_ERR_UNREACHABLE);
    CHECK_OK(ahoy_request(list, NULL, "x", 1, NULL, 0, &received));
    CHECK_EQ(received, 1);

    ahoy_server_free(near);
    ahoy_server_free(far);
    CHECK_HOLDINGS(before);
    return 0;
}
