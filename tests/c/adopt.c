/*
 * ahoy_server_adopt takes over a connected socket of the program: the handle is good at once, what is sent
 * before on_open arrives, and what is no connected stream socket stays the program's.
 */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static tally seen = TALLY_INIT;

/* Where an adoption writes its handle: at once, before on_open. */
static ahoy_conn adopted;
static latch compared = LATCH_INIT;

static void compare(ahoy_conn conn, void *user) {
    (void)user;
    CHECK_EQ(conn.id, adopted.id);
    latch_add(&compared, 1);
}

static void the_handle_is_written_before_on_open(void) {
    ahoy_server server = start(OPTIONS(.workers = 1, .on_open = compare));
    for (long round = 1; round <= rounds(5000); round++) {
        int pair[2];
        stream_pair(pair);
        CHECK_OK(ahoy_server_adopt(server, pair[0], &adopted));
        latch_wait(&compared, round);
        close(pair[1]);
    }
    ahoy_server_free(server);
}

static void the_handle_is_good_at_once(ahoy_server server) {
    for (long round = 1; round <= 100; round++) {
        int pair[2];
        char answer[10];
        ahoy_conn conn = { 0 };
        CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair)); /* blocking, and without close-on-exec */
        send_all(pair[1], "ask", 3);
        CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
        CHECK(conn.id != 0);
        CHECK_OK(ahoy_send(conn, "early", 5));
        CHECK_OK(ahoy_send(conn, "later", 5));
        CHECK_EQ(ahoy_conn_server(conn).id, server.id);
        CHECK(fcntl(pair[0], F_GETFL) & O_NONBLOCK);
        CHECK(fcntl(pair[0], F_GETFD) & FD_CLOEXEC);
        recv_exact(pair[1], answer, 10);
        /* The echo of the first message may come between the two, but never inside one. */
        latch_wait(&seen.messages, round);
        char rest[3];
        recv_exact(pair[1], rest, 3);
        char all[14] = "";
        memcpy(all, answer, 10), memcpy(all + 10, rest, 3);
        CHECK(!strcmp(all, "earlylaterask") || !strcmp(all, "earlyasklater") ||
              !strcmp(all, "askearlylater"));
        close(pair[1]);
        latch_wait(&seen.closed, round);
    }
    CHECK_EQ(latch_count(&seen.opened), 100);
}

/* Closed by the program before the worker has heard of it: still one on_open and one on_close. */
static void closed_at_once(ahoy_server server) {
    long opened = latch_count(&seen.opened), closed = latch_count(&seen.closed);
    for (int round = 0; round < 100; round++) {
        int pair[2];
        char answer[8] = "";
        ahoy_conn conn;
        stream_pair(pair);
        CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
        CHECK_OK(ahoy_send(conn, "bye", 3));
        CHECK_OK(ahoy_conn_close(conn));
        CHECK_EQ(recv_until_eof(pair[1], answer, sizeof answer), 3);
        CHECK_TEXT(answer, "bye");
        close(pair[1]);
    }
    latch_wait(&seen.closed, closed + 100);
    CHECK_EQ(latch_count(&seen.opened), opened + 100);
}

static void bad_descriptors(ahoy_server server) {
    holdings before = holdings_now();
    int pipes[2], datagrams[2];
    int file = open("/dev/null", O_RDWR), fresh = socket(AF_INET, SOCK_STREAM, 0);
    int udp = socket(AF_INET, SOCK_DGRAM, 0), listener = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK(!pipe(pipes) && !socketpair(AF_UNIX, SOCK_DGRAM, 0, datagrams));
    CHECK(!bind(listener, &(struct sockaddr){ .sa_family = AF_UNIX }, sizeof(sa_family_t)));
    CHECK(!listen(listener, 1));
    const int bad[] = { -1, INT32_MIN, INT32_MAX, 999999, file, pipes[0], pipes[1], udp, datagrams[0],
                        fresh, listener };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ahoy_conn conn = { 77 };
        CHECK_STATUS(ahoy_server_adopt(server, bad[i], &conn), AHOY_ERR_BAD_DESCRIPTOR);
        CHECK_EQ(conn.id, 77);
        CHECK(strlen(ahoy_last_error()) > 0);
    }
    /* They stayed the program's, as they were. */
    const int ours[] = { file, pipes[0], pipes[1], udp, datagrams[0], datagrams[1], fresh, listener };
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        CHECK(!(fcntl(ours[i], F_GETFL) & O_NONBLOCK));
        CHECK(!close(ours[i]));
    }
    CHECK_HOLDINGS(before);
}

/* The ordinary case: an accept loop hands its clients over. */
static void from_an_accept_loop(ahoy_server server) {
    struct sockaddr_in name = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t len = sizeof name;
    char url[64], echo[4];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(!bind(listener, (struct sockaddr *)&name, len) && !listen(listener, 8));
    CHECK(!getsockname(listener, (struct sockaddr *)&name, &len));
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", ntohs(name.sin_port));
    for (int i = 0; i < 10; i++) {
        int client = dial_url(url);
        CHECK_OK(ahoy_server_adopt(server, accept(listener, NULL, NULL), NULL));
        send_all(client, "echo", 4);
        recv_exact(client, echo, 4);
        close(client);
    }
    close(listener);
}

int main(void) {
    holdings before = holdings_now();
    ahoy_server server = start(OPTIONS(.workers = 2, .user = &seen, .on_open = tally_open,
                                       .on_message = tally_echo, .on_close = tally_close));
    the_handle_is_written_before_on_open();
    the_handle_is_good_at_once(server);
    closed_at_once(server);
    bad_descriptors(server);
    from_an_accept_loop(server);

    CHECK_OK(ahoy_server_stop(server, 0));
    int pair[2];
    ahoy_conn conn = { 77 };
    stream_pair(pair);
    CHECK_STATUS(ahoy_server_adopt(server, pair[0], &conn), AHOY_ERR_STOPPED);
    CHECK_EQ(conn.id, 77);
    close(pair[0]), close(pair[1]);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.opened), latch_count(&seen.closed));
    CHECK_HOLDINGS(before);
    return 0;
}
