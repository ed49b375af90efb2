/*
 * A server can be started again on the same port right after a stop: also while connections of the old one,
 * closed by the server, are still in TIME_WAIT, and as soon as ahoy_server_wait has returned.
 */
#include "support.h"

#include <unistd.h>

int main(void) {
    char url[128], again[128], answer[17];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));

    for (int round = 0; round < 20; round++) {
        /* The server closes first: its end is the one that stays in TIME_WAIT. */
        for (int i = 0; i < 4; i++) {
            int fd = dial_url(url);
            send_all(fd, "hi", 2);
            CHECK_EQ(recv_until_eof(fd, answer, sizeof answer), 17);
            close(fd);
        }
        ahoy_server old = server;
        if (round % 2) {
            CHECK_OK(ahoy_server_stop(old, AHOY_DRAIN_DEFAULT));
            CHECK_OK(ahoy_server_wait(old));
        } else {
            ahoy_server_free(old);
        }
        server = start(OPTIONS(.listen = url, .workers = 2));
        CHECK_OK(ahoy_server_address(server, 0, again, sizeof again));
        CHECK_TEXT(again, url);
        ahoy_server_free(old);
    }
    ahoy_server_free(server);
    return 0;
}
