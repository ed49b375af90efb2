/*
 * A publish to more connections than one turn sends to: everybody hears it once, before what comes behind it; a stop
 * lets it out; and who talks meanwhile is answered.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

/* Where fewer descriptors are permitted there are fewer members, and it may be one turn. */
enum { MEMBERS_MAX = 9000, SPARE_DESCRIPTORS = 100 };

static ahoy_conn conns[MEMBERS_MAX];
static int peers[MEMBERS_MAX];
static latch joined = LATCH_INIT, closed = LATCH_INIT;

static void join(ahoy_conn conn, void *user) {
    (void)user;
    CHECK_OK(ahoy_conn_join(conn, "all"));
    latch_add(&joined, 1);
}

/* From inside: to all, and to this one behind it. */
static void answer(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    CHECK_OK(ahoy_publish(ahoy_conn_server(conn), "all", "c", 1));
    CHECK_OK(ahoy_send(conn, "d", 1));
}

static void gone(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)user;
    CHECK_STATUS(reason, AHOY_ERR_STOPPED);
    latch_add(&closed, 1);
}

static void hears(int peer, const char *words) {
    char heard[8];
    recv_exact(peer, heard, strlen(words));
    CHECK(!memcmp(heard, words, strlen(words)));
}

int main(void) {
    long members = (long)(descriptors_up_to(2 * MEMBERS_MAX + SPARE_DESCRIPTORS) - SPARE_DESCRIPTORS) / 2;
    ahoy_server server = start(OPTIONS(.workers = 1, .on_open = join, .on_message = answer, .on_close = gone));
    for (long i = 0; i < members; i++) {
        int pair[2];
        stream_pair(pair);
        peers[i] = pair[1];
        CHECK_OK(ahoy_server_adopt(server, pair[0], &conns[i]));
    }
    latch_wait(&joined, members);

    CHECK_OK(ahoy_publish(server, "all", "a", 1));
    CHECK_OK(ahoy_publish(server, "all", "b", 1));
    hears(peers[0], "ab");
    send_all(peers[0], "?", 1);
    hears(peers[0], "cd");
    for (long i = 1; i < members; i++) hears(peers[i], "abc");

    for (long i = 0; i < members; i++) CHECK_OK(ahoy_send(conns[i], "e", 1));
    CHECK_OK(ahoy_publish(server, "all", "f", 1));
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    for (long i = 0; i < members; i++) {
        char none;
        hears(peers[i], "ef");
        CHECK_EQ(recv(peers[i], &none, 1, 0), 0);
        close(peers[i]);
    }
    latch_wait(&closed, members);
    CHECK_EQ(stats_of(server).bytes_cut, 0);
    CHECK_EQ(stats_of(server).bytes_out, 1 + 5 * members);
    ahoy_server_free(server);
    return 0;
}
