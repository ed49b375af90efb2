/* Servers come and go by the hundred, some with a client, and leave neither descriptor nor thread. */
#include "support.h"

#include <unistd.h>

enum { SERVERS = 500, AT_ONCE = 20 };

int main(void) {
    ahoy_server_free(start(OPTIONS(.listen = LOOPBACK))); /* whatever is made once, is made */
    holdings before = holdings_now();
    tally seen = TALLY_INIT;
    long count = rounds(SERVERS);

    for (long i = 0; i < count; i++) {
        bool loop = i % 10 == 9;
        ahoy_server server = start(OPTIONS(.listen = i % 2 ? LOOPBACK : abstract_url(), .user = &seen,
                                           .workers = loop ? AHOY_WORKERS_NONE : 1 + (int)(i % 3),
                                           .on_open = tally_open, .on_close = tally_close,
                                           .on_free = tally_free, .on_message = tally_message));
        int fd = i % 3 ? -1 : dial(server);
        if (i % 4 == 1) CHECK_OK(ahoy_server_stop(server, 0));
        if (i % 8 == 1) CHECK_OK(ahoy_server_wait(server));
        ahoy_server_free(server);
        CHECK_EQ(latch_count(&seen.freed), i + 1);
        if (fd >= 0) close(fd);
        if (i % 50 == 0) CHECK_HOLDINGS(before);
    }
    CHECK_EQ(latch_count(&seen.opened), latch_count(&seen.closed));
    CHECK_HOLDINGS(before);

    /* Many at once, freed in another order. */
    ahoy_server servers[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) servers[i] = start(OPTIONS(.listen = LOOPBACK, .workers = 2));
    for (int i = 0; i < AT_ONCE; i++) close(dial(servers[i]));
    for (int i = 0; i < AT_ONCE; i++) ahoy_server_free(servers[i * 7 % AT_ONCE]);
    CHECK_HOLDINGS(before);
    return 0;
}
