/*
 * Members of one topic that speak different framings: each gets every message in its own frame, empty ones and long
 * ones too, published once. One whose frame cannot hold a message misses it, and nobody else does.
 */
#include "wire.h"

#include <unistd.h>

enum { MEMBERS = 2 * (WIRES + 1), LONG_BYTES = 100000 };

static tally seen = TALLY_INIT;

static const wire *wire_of(int member) {
    return member % (WIRES + 1) < WIRES ? &wires[member % (WIRES + 1)] : &wire_raw;
}

int main(void) {
    static char message[LONG_BYTES];
    char listen[1024];
    size_t used = 0;
    int fds[MEMBERS];
    letters_fill(message, sizeof message, 0);
    for (int i = 0; i <= WIRES; i++) {
        used += (size_t)sprintf(listen + used, "%s" LOOPBACK "?%s", i ? "," : "", wire_of(i)->query);
    }
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 2, .user = &seen, .on_open = tally_open,
                                       .on_message = tally_message, .on_close = tally_close));
    for (int i = 0; i < MEMBERS; i++) {
        fds[i] = dial_listener(server, (size_t)i % (WIRES + 1));
        latch_wait(&seen.opened, i + 1);
        CHECK_OK(ahoy_conn_join(tally_conn(&seen), "all"));
    }
    const size_t lengths[] = { 5, 0, 1, 255, 100, 256, 65535, 3, 65536, LONG_BYTES, 7 };
    enum { LENGTHS = sizeof lengths / sizeof lengths[0] };
    for (int n = 0; n < LENGTHS; n++) CHECK_OK(ahoy_publish(server, "all", message, lengths[n]));
    CHECK_OK(ahoy_publish(server, "all", NULL, 0));
    CHECK_STATUS(ahoy_publish(server, "all", NULL, 1), AHOY_ERR_NULL);
    CHECK_OK(ahoy_publish(server, "all", "end", 3));
    for (int i = 0; i < MEMBERS; i++) {
        for (int n = 0; n < LENGTHS; n++) {
            if (lengths[n] <= wire_of(i)->message_max && (lengths[n] || wire_of(i) != &wire_raw)) {
                wire_expect(wire_of(i), fds[i], message, lengths[n]);
            }
        }
        if (wire_of(i) != &wire_raw) wire_expect(wire_of(i), fds[i], NULL, 0);
        wire_expect(wire_of(i), fds[i], "end", 3);
        close(fds[i]);
    }
    latch_wait(&seen.closed, MEMBERS);
    CHECK_EQ(seen.reasons[-AHOY_ERR_EOF], MEMBERS);
    CHECK_EQ(stats_of(server).published, LENGTHS + 2);
    ahoy_server_free(server);
    return 0;
}
