/*
 * Servers take turns on the same sockets while clients connect all the time: no connect fails, and no conversation
 * that has begun is broken off.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { SWAPS = 20, CLIENTS = 3, LISTENERS = 2 };

static char urls[LISTENERS][160];
static atomic_bool done;
static atomic_long talks, failed_connects, broken;
static latch opened = LATCH_INIT, closed = LATCH_INIT;

static void on_open(ahoy_conn conn, void *user) {
    (void)conn, (void)user;
    latch_add(&opened, 1);
}

static void echo(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_OK(ahoy_send(conn, data, len));
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason, (void)user;
    latch_add(&closed, 1);
}

/* The peer will end the conversation soon: it is given the time. */
static void on_drain(ahoy_conn conn, void *user) {
    (void)conn, (void)user;
}

static void *client(void *url) {
    char answer[4];
    while (!done) {
        int fd = try_dial_url(url);
        if (fd < 0) {
            fprintf(stderr, "connect %s: %s\n", (char *)url, strerror(-fd));
            failed_connects++;
            continue;
        }
        send_all(fd, "ahoy", 4);
        size_t got = 0;
        while (got < sizeof answer) {
            ssize_t more = recv(fd, answer + got, sizeof answer - got, 0);
            if (more <= 0) break;
            got += (size_t)more;
        }
        if (got < sizeof answer) broken++;
        close(fd);
        talks++;
    }
    return NULL;
}

static ahoy_server begin(const char *listen) {
    return start(OPTIONS(.listen = listen, .workers = 2, .on_open = on_open, .on_message = echo,
                         .on_drain = on_drain, .on_close = on_close));
}

static ahoy_server successor(ahoy_server old) {
    int fds[LISTENERS];
    size_t count;
    char list[64];
    CHECK_OK(ahoy_server_listeners(old, fds, LISTENERS, &count));
    CHECK_EQ(count, LISTENERS);
    snprintf(list, sizeof list, "fd:%d,fd:%d", fds[0], fds[1]);
    return begin(list);
}

int main(void) {
    holdings before = holdings_now();
    char list[320];
    snprintf(list, sizeof list, "tcp://127.0.0.1:0,unix:%s/socket", make_folder());
    ahoy_server server = begin(list);
    for (size_t i = 0; i < LISTENERS; i++) CHECK_OK(ahoy_server_address(server, i, urls[i], sizeof urls[i]));
    pthread_t threads[LISTENERS * CLIENTS];
    for (int i = 0; i < LISTENERS * CLIENTS; i++) {
        CHECK(!pthread_create(&threads[i], NULL, client, urls[i % LISTENERS]));
    }
    for (int swap = 0; swap < SWAPS; swap++) {
        long begun = talks;
        WAIT_UNTIL(talks >= begun + 20); /* under load */
        ahoy_server next = successor(server);
        CHECK_OK(ahoy_server_stop(server, 20000));
        CHECK_OK(ahoy_server_wait(server));
        CHECK_EQ(stats_of(server).connections_cut, 0);
        CHECK_EQ(stats_of(server).opened, stats_of(server).closed);
        ahoy_server_free(server);
        server = next;
    }
    done = true;
    for (int i = 0; i < LISTENERS * CLIENTS; i++) CHECK(!pthread_join(threads[i], NULL));
    ahoy_server_free(server);
    CHECK_EQ(failed_connects, 0);
    CHECK_EQ(broken, 0);
    CHECK_EQ(latch_count(&opened), talks);
    CHECK_EQ(latch_count(&closed), talks);
    remove_folder();
    CHECK_HOLDINGS(before);
    return 0;
}
