/*
 * Outgoing datagram connections: the usual callbacks, a message for each datagram both ways, queued before on_open as
 * well. Where nobody listens the first answer of the network ends it.
 */
#include "dgram.h"
#include "remote.h"

#include <unistd.h>

static tally served, seen;
static char bytes[UDP_BYTES_MAX + 1];
static size_t lengths[16];
static size_t heard;

static void echo(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_send(conn, data, len));
    (void)user;
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_EQ(len, lengths[heard]); /* one for each, in order */
    CHECK(len == 0 || memcmp(data, bytes, len) == 0);
    heard++;
    latch_add(&seen.messages, 1);
    (void)conn, (void)user;
}

static ahoy_server begin(void) {
    seen = (tally)TALLY_INIT, served = (tally)TALLY_INIT, heard = 0;
    return start(OPTIONS(.workers = 2, .user = &seen, .on_open = tally_open, .on_message = on_message,
                         .on_close = tally_close));
}

static void talks(const char *listen, size_t longest) {
    char url[160], peer[160];
    ahoy_server far = start(OPTIONS(.listen = listen, .workers = 1, .user = &served, .on_open = tally_open,
                                    .on_message = echo, .on_close = tally_close));
    ahoy_server near = begin();
    CHECK_OK(ahoy_server_address(far, 0, url, sizeof url));
    const size_t all[] = { 3, 0, 1000, longest, 1, 0 };
    memcpy(lengths, all, sizeof all);
    ahoy_conn conn = outgoing(near, url, CONNECT_OPTIONS(0));
    for (int i = 0; i < 3; i++) CHECK_OK(ahoy_send(conn, bytes, all[i])); /* perhaps before on_open */
    latch_wait(&seen.messages, 3);
    CHECK_EQ(latch_count(&seen.opened), 1);
    CHECK_EQ(latch_count(&served.opened), 1);
    for (int i = 3; i < 6; i++) CHECK_OK(ahoy_send(conn, bytes, all[i]));
    latch_wait(&seen.messages, 6);
    CHECK_OK(ahoy_conn_peer(conn, peer, sizeof peer));
    CHECK_TEXT(peer, strncmp(url, "unixgram:", 9) ? url : "unixgram:"); /* a Unix peer is not named */
    CHECK_STATUS(ahoy_conn_end(conn), AHOY_ERR_UNSUPPORTED);
    if (longest == UDP_BYTES_MAX) CHECK_STATUS(ahoy_send(conn, bytes, UDP_BYTES_MAX + 1), AHOY_ERR_TOO_LONG);
    CHECK_EQ(latch_count(&seen.closed), 0);
    CHECK_OK(ahoy_conn_close(conn));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(stats_of(near).datagrams_dropped, 0);
    ahoy_server_free(near);
    ahoy_server_free(far);
    CHECK_EQ(latch_count(&served.opened), 1);
}

/*
 * The network says so only when something was sent. The port is held by a socket that hears nobody but itself: were it free, the
 * system might give it to the connection that asks for it.
 */
static void nobody_listens(const char *host) {
    char own[64], url[64];
    snprintf(own, sizeof own, "udp://%s:0", host);
    ahoy_server near = begin();
    int deaf = dgram_bind(own, url, sizeof url);
    struct sockaddr_storage itself;
    socklen_t bytes_of_itself = sizeof itself;
    CHECK(!getsockname(deaf, (struct sockaddr *)&itself, &bytes_of_itself));
    CHECK(!connect(deaf, (struct sockaddr *)&itself, bytes_of_itself));
    ahoy_conn conn = outgoing(near, url, CONNECT_OPTIONS(0));
    latch_wait(&seen.opened, 1);
    CHECK_EQ(latch_count(&seen.closed), 0);
    CHECK_OK(ahoy_send(conn, "anybody?", 8));
    latch_wait(&seen.closed, 1);
    CHECK(seen.reason == AHOY_ERR_REFUSED || seen.reason == AHOY_ERR_RESET);
    ahoy_server_free(near);
    CHECK_EQ(latch_count(&seen.closed), 1);
    close(deaf);
}

static void not_there(void) {
    ahoy_server near = begin();
    outgoing(near, dgram_name(7), CONNECT_OPTIONS(0));
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_REFUSED);
    outgoing(near, "unixgram:/nowhere/at/all", CONNECT_OPTIONS(0));
    latch_wait(&seen.closed, 2);
    CHECK_STATUS(seen.reason, AHOY_ERR_NOT_FOUND);
    outgoing(near, "udp://nobody.invalid:53", CONNECT_OPTIONS(0));
    latch_wait(&seen.closed, 3);
    CHECK_STATUS(seen.reason, AHOY_ERR_NAME);
    CHECK_EQ(latch_count(&seen.opened), 0);
    ahoy_server_free(near);
}

/* Silent for datagram_idle_ms it is over, as those that were accepted. */
static void falls_silent(void) {
    char url[64];
    int fd = dgram_bind("udp://127.0.0.1:0", url, sizeof url);
    seen = (tally)TALLY_INIT;
    ahoy_server near = start(OPTIONS(.workers = 1, .user = &seen, .datagram_idle_ms = 100, .on_open = tally_open,
                                     .on_message = on_message, .on_close = tally_close));
    CHECK_OK(ahoy_send(outgoing(near, url, CONNECT_OPTIONS(0)), "hello", 5));
    dgram_expect(fd, "hello", 5);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_ERR_TIMEOUT);
    ahoy_server_free(near);
    close(fd);
}

int main(void) {
    holdings before = holdings_now();
    char url[96];
    pattern_fill(bytes, sizeof bytes, 0);
    talks("udp://127.0.0.1:0", UDP_BYTES_MAX);
    talks("udp://[::1]:0", UDP_BYTES_MAX);
    talks(dgram_name(0), 50000);
    snprintf(url, sizeof url, "unixgram:%s/server", make_folder());
    talks(url, 50000);
    remove_folder();
    nobody_listens("127.0.0.1");
    nobody_listens("[::1]");
    not_there();
    falls_silent();
    CHECK_HOLDINGS(before);
    return 0;
}
