/*
 * ahoy_conn_peer tells who the peer is: in every callback, on_close included, and from other threads. It
 * writes the whole URL or nothing.
 */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static tally seen;
static char at_open[64], at_message[64], at_close[64];

static void on_open(ahoy_conn conn, void *user) {
    CHECK_OK(ahoy_conn_peer(conn, at_open, sizeof at_open));
    tally_open(conn, user);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_conn_peer(conn, at_message, sizeof at_message));
    tally_message(conn, data, len, user);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_OK(ahoy_conn_peer(conn, at_close, sizeof at_close));
    tally_close(conn, reason, user);
}

/* What the client itself takes for its address. */
static void own_address(int fd, char *url, size_t capacity) {
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    char host[INET6_ADDRSTRLEN];
    CHECK(getsockname(fd, (struct sockaddr *)&name, &len) == 0);
    if (name.ss_family == AF_INET) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&name;
        CHECK(inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host));
        snprintf(url, capacity, "tcp://%s:%d", host, ntohs(v4->sin_port));
    } else if (name.ss_family == AF_INET6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&name;
        CHECK(inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host));
        snprintf(url, capacity, "tcp://[%s]:%d", host, ntohs(v6->sin6_port));
    } else {
        snprintf(url, capacity, "unix:");
    }
}

static void told_by(const char *listen) {
    char own[64], url[64];
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 2, .user = &seen,
                                       .on_open = on_open, .on_message = on_message,
                                       .on_close = on_close));
    int fd = dial(server);
    own_address(fd, own, sizeof own);
    send_all(fd, "x", 1);
    latch_wait(&seen.messages, 1);
    CHECK_TEXT(at_open, own);
    CHECK_TEXT(at_message, own);

    ahoy_conn conn = tally_conn(&seen);
    CHECK_OK(ahoy_conn_peer(conn, url, sizeof url));
    CHECK_TEXT(url, own);
    memset(url, 'z', sizeof url);
    CHECK_STATUS(ahoy_conn_peer(conn, url, strlen(own)), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_conn_peer(conn, url, 0), AHOY_ERR_TOO_LONG);
    CHECK_EQ(url[0], 'z');
    CHECK_OK(ahoy_conn_peer(conn, url, strlen(own) + 1));
    CHECK_TEXT(url, own);
    CHECK_EQ(url[strlen(own) + 1], 'z');

    close_reset(fd); /* the socket itself could no longer tell */
    latch_wait(&seen.closed, 1);
    CHECK_TEXT(at_close, own);
    ahoy_server_free(server);
}

int main(void) {
    told_by(LOOPBACK);
    told_by("tcp://[::1]:0");
    told_by(abstract_url());

    /* An adopted socket has a peer, too. */
    int pair[2];
    char url[64];
    ahoy_conn conn;
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.workers = 1, .on_close = on_close, .user = &seen));
    stream_pair(pair);
    CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
    CHECK_OK(ahoy_conn_peer(conn, url, sizeof url));
    CHECK_TEXT(url, "unix:");
    close(pair[1]);
    latch_wait(&seen.closed, 1);
    CHECK_TEXT(at_close, "unix:");
    ahoy_server_free(server);
    return 0;
}
