/*
 * Many peers pour in more than the worker takes, without an end, and each time that it has taken something they have filled
 * their sockets again. One peer among them says a word now and then, and is heard and answered all the same.
 */
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Together they fill everything that a driver receives into several times over. */
enum { FLOODERS = 48, WORDS = 100 };

static struct pollfd flooders[FLOODERS];
static atomic_bool over;
static tally seen;

/* Pours into all of them until none takes any more. */
static void fill(void) {
    static char piece[64 << 10];
    for (int i = 0; i < FLOODERS; i++) {
        while (send(flooders[i].fd, piece, sizeof piece, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) continue;
    }
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (len == 4 && !memcmp(data, "word", 4)) CHECK_OK(ahoy_send(conn, data, len));
    else if (!over) fill();
    tally_message(conn, data, len, user);
}

static void one_is_heard(int32_t driver) {
    char answer[4];
    int quiet = -1;
    seen = (tally)TALLY_INIT;
    over = false;
    ahoy_server server = start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &seen, .driver = driver,
                                       .on_open = tally_open, .on_message = on_message, .on_close = tally_close));
    for (int i = 0; i < FLOODERS; i++) {
        if (i == FLOODERS / 2) quiet = dial(server);
        flooders[i] = (struct pollfd){ .fd = dial(server), .events = POLLOUT };
    }
    latch_wait(&seen.opened, FLOODERS + 1);
    fill();
    for (int i = 0; i < WORDS; i++) {
        send_all(quiet, "word", 4);
        recv_exact(quiet, answer, sizeof answer);
        CHECK(!memcmp(answer, "word", 4));
    }
    over = true;
    /* The worker may still be in the middle of filling: their descriptors go when it is gone. */
    for (int i = 0; i < FLOODERS; i++) CHECK(!shutdown(flooders[i].fd, SHUT_RDWR));
    CHECK(!shutdown(quiet, SHUT_RDWR));
    latch_wait(&seen.closed, FLOODERS + 1);
    ahoy_server_free(server);
    for (int i = 0; i < FLOODERS; i++) close(flooders[i].fd);
    close(quiet);
}

int main(void) {
    one_is_heard(AHOY_DRIVER_EPOLL);
    need_uring();
    one_is_heard(AHOY_DRIVER_URING);
    return 0;
}
