/*
 * Unix datagram sockets: a path and an abstract name. A peer that has bound its socket is answered; to one that has
 * not there is no way back: what is sent to it is dropped and counted, and nobody else is held up.
 */
#include "dgram.h"

#include <sys/stat.h>
#include <unistd.h>

static tally seen;

static void echo(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_send(conn, data, len));
    latch_add(&seen.messages, 1);
    (void)user;
}

static ahoy_server begin(const char *listen) {
    seen = (tally)TALLY_INIT;
    return start(OPTIONS(.listen = listen, .workers = 2, .user = &seen, .on_open = tally_open, .on_message = echo,
                         .on_close = tally_close));
}

static void echoes(const char *listen, const char *own) {
    char peer[160], long_one[4096];
    ahoy_server server = begin(listen);
    pattern_fill(long_one, sizeof long_one, 0);
    int fd = dgram_dial(server, 0, own);
    dgram_send(fd, "hello", 5);
    dgram_expect(fd, "hello", 5);
    dgram_send(fd, "", 0);
    dgram_expect(fd, "", 0);
    dgram_send(fd, long_one, sizeof long_one);
    dgram_expect(fd, long_one, sizeof long_one);
    CHECK_OK(ahoy_conn_peer(tally_conn(&seen), peer, sizeof peer));
    CHECK_TEXT(peer, "unixgram:"); /* a Unix peer is not named */
    CHECK_EQ(latch_count(&seen.opened), 1);
    CHECK_EQ(stats_of(server).datagrams_dropped, 0);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
    close(fd);
    if (strchr(own, '/')) unlink(strchr(own, '/'));
}

static void without_an_address(const char *listen) {
    char peer[160];
    ahoy_server server = begin(listen);
    int nobody = dgram_dial(server, 0, NULL), somebody = dgram_dial(server, 0, dgram_name(2));
    for (int i = 0; i < 3; i++) dgram_send(nobody, "heard", 5);
    latch_wait(&seen.messages, 3);
    CHECK_OK(ahoy_conn_peer(tally_conn(&seen), peer, sizeof peer));
    CHECK_TEXT(peer, "unixgram:");
    WAIT_UNTIL(stats_of(server).datagrams_dropped == 3);
    dgram_send(somebody, "hello", 5);
    dgram_expect(somebody, "hello", 5);
    dgram_send(nobody, "heard", 5);
    latch_wait(&seen.messages, 5);
    WAIT_UNTIL(stats_of(server).datagrams_dropped == 4);
    CHECK_EQ(stats_of(server).bytes_queued, 0);
    CHECK_EQ(latch_count(&seen.opened), 2); /* all that have no address are one */
    close(nobody), close(somebody);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 2);
}

/* A peer that was there and is gone: its answer is dropped or ends its connection; the others go on. */
static void a_peer_leaves(const char *listen) {
    ahoy_server server = begin(listen);
    int leaver = dgram_dial(server, 0, dgram_name(3));
    int stayer = dgram_dial(server, 0, dgram_name(4));
    dgram_send(leaver, "here", 4);
    dgram_expect(leaver, "here", 4);
    ahoy_conn left = tally_conn(&seen);
    close(leaver);
    ahoy_status status = ahoy_send(left, "anybody?", 8);
    CHECK_OK(status);
    WAIT_UNTIL(stats_of(server).datagrams_dropped > 0 || latch_count(&seen.closed) > 0);
    dgram_send(stayer, "hello", 5);
    dgram_expect(stayer, "hello", 5);
    close(stayer);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.opened), latch_count(&seen.closed));
}

int main(void) {
    holdings before = holdings_now();
    char folder[64], path[96], own[96];
    struct stat file;
    snprintf(folder, sizeof folder, "%s", make_folder());
    snprintf(path, sizeof path, "unixgram:%s/server", folder);
    snprintf(own, sizeof own, "unixgram:%s/client", folder);
    const char *abstract = dgram_name(0);

    echoes(path, own);
    CHECK(stat(strchr(path, '/'), &file) != 0); /* its file is gone with it */
    echoes(path, dgram_name(1));
    echoes(abstract, own);
    echoes(abstract, dgram_name(1));
    without_an_address(path);
    without_an_address(abstract);
    a_peer_leaves(abstract);

    /* One where somebody listens is not taken from him; what a dead process left is replaced. */
    ahoy_server first = begin(path);
    ahoy_server_options options = OPTIONS(.listen = path);
    ahoy_server none = { 77 };
    CHECK_STATUS(ahoy_server_start(&options, &none), AHOY_ERR_ADDRESS_IN_USE);
    CHECK_EQ(none.id, 77);
    int fd;
    size_t count;
    CHECK_OK(ahoy_server_listeners(first, &fd, 1, &count)); /* so that the file stays behind */
    ahoy_server_free(first);
    close(fd);
    CHECK(stat(strchr(path, '/'), &file) == 0);
    echoes(path, own);
    remove_folder();
    CHECK_HOLDINGS(before);
    return 0;
}
