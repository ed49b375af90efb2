/*
 * The callbacks of one connection never run at the same time and keep their order, however many workers
 * there are and whatever other threads do to it.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CONNS = 16, THREADS = 4, BYTES = 100000 };

typedef struct life {
    atomic_int inside;
    size_t received; /* not atomic: a race would show under TSan, and as a hole in the pattern */
    _Atomic uint64_t conn;
    atomic_bool closed;
} life;

static life lives[CONNS];
static atomic_int opened;
static latch closed = LATCH_INIT;
static atomic_bool done;

static void enter(life *life) {
    CHECK_EQ(life->inside++, 0);
    CHECK(!life->closed);
}

static void leave(life *life) {
    CHECK_EQ(--life->inside, 0);
}

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    life *life = &lives[opened++];
    CHECK_OK(ahoy_conn_set_user(conn, life, NULL));
    enter(life);
    life->conn = conn.id;
    leave(life);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    life *life = user;
    enter(life);
    CHECK_EQ(conn.id, life->conn);
    CHECK(pattern_matches(data, len, life->received));
    life->received += len;
    leave(life);
}

static void on_writable(ahoy_conn conn, void *user) {
    (void)conn;
    enter(user);
    leave(user);
}

static void on_end(ahoy_conn conn, void *user) {
    life *life = user;
    enter(life);
    CHECK_EQ(life->received, BYTES); /* the end comes after the last byte */
    ahoy_conn_close(conn);
    leave(life);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason;
    life *life = user;
    enter(life);
    CHECK_EQ(life->received, BYTES);
    life->closed = true;
    leave(life);
    latch_add(&closed, 1);
}

/* Sends, pauses and resumes from outside, so that several reasons for a callback coincide. */
static void *meddle(void *unused) {
    (void)unused;
    char byte = 'x';
    for (unsigned i = 0; !done; i++) {
        ahoy_conn conn = { lives[i % CONNS].conn };
        if (!conn.id) continue;
        ahoy_conn_pause(conn);
        for (int j = 0; j < 20 && ahoy_send(conn, &byte, 1) == AHOY_OK; j++) {}
        while (ahoy_conn_resume(conn) == AHOY_ERR_AGAIN) wait_moment();
    }
    return NULL;
}

static void *client(void *server) {
    char bytes[1000], got[4096];
    int fd = dial(*(ahoy_server *)server);
    for (size_t sent = 0; sent < BYTES; sent += sizeof bytes) {
        pattern_fill(bytes, sizeof bytes, sent);
        send_all(fd, bytes, sizeof bytes);
        (void)!recv(fd, got, sizeof got, MSG_DONTWAIT);
    }
    CHECK(!shutdown(fd, SHUT_WR));
    CHECK(recv_until_eof(fd, got, sizeof got) >= 0);
    close(fd);
    return NULL;
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 4, .on_open = on_open,
                                       .message_bytes_max = 700, .on_message = on_message,
                                       .on_writable = on_writable, .on_end = on_end,
                                       .on_close = on_close));
    pthread_t clients[CONNS], meddlers[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&meddlers[i], NULL, meddle, NULL));
    for (int i = 0; i < CONNS; i++) CHECK(!pthread_create(&clients[i], NULL, client, &server));
    for (int i = 0; i < CONNS; i++) CHECK(!pthread_join(clients[i], NULL));
    latch_wait(&closed, CONNS);
    done = true;
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(meddlers[i], NULL));
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&closed), CONNS);
    return 0;
}
