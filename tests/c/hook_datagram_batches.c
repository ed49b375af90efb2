/*
 * Datagrams are received and sent in batches: where many wait, and many answers are queued, the system is called far
 * less often than there are datagrams.
 */
#include "dgram.h"
#include "hooks.h"

#include <unistd.h>

enum { PEERS = 8, EACH = 16, DATAGRAMS = PEERS * EACH };

static tally seen = TALLY_INIT;

int main(void) {
    /* The program's own loop is the worker: nothing is received until all of them wait. */
    ahoy_server server = start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = AHOY_WORKERS_NONE, .user = &seen,
                                       .on_open = tally_open, .on_message = tally_echo));
    int fds[PEERS];
    for (int i = 0; i < PEERS; i++) {
        fds[i] = dgram_dial(server, 0, NULL);
        dgram_send(fds[i], "x", 1); /* the first one opens its connection */
        while (latch_count(&seen.messages) <= i) CHECK_OK(ahoy_server_turn(server, 1000));
        dgram_expect(fds[i], "x", 1);
    }
    ahoy_test_fail("recvmmsg", 0, 0, 0); /* counts from here on */
    ahoy_test_fail("sendmmsg", 0, 0, 0);
    for (int i = 0; i < EACH; i++) {
        for (int j = 0; j < PEERS; j++) dgram_send(fds[j], &i, sizeof i);
    }
    while (latch_count(&seen.messages) < PEERS + DATAGRAMS) CHECK_OK(ahoy_server_turn(server, 1000));
    /* What the last turn has queued has left with it. */
    for (int i = 0; i < EACH; i++) {
        for (int j = 0; j < PEERS; j++) dgram_expect(fds[j], &i, sizeof i);
    }
    int received = ahoy_test_calls("recvmmsg"), sent = ahoy_test_calls("sendmmsg");
    if (received * 4 > DATAGRAMS || sent * 4 > DATAGRAMS) {
        fprintf(stderr, "%d datagrams: %d times recvmmsg, %d times sendmmsg\n", DATAGRAMS, received, sent);
    }
    CHECK(received > 0 && received * 4 <= DATAGRAMS);
    CHECK(sent > 0 && sent * 4 <= DATAGRAMS);
    CHECK_EQ(latch_count(&seen.opened), PEERS);
    CHECK_EQ(stats_of(server).datagrams_dropped, 0);
    for (int i = 0; i < PEERS; i++) close(fds[i]);
    ahoy_server_free(server);
    return 0;
}
