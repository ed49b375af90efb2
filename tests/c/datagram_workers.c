/*
 * A peer of a datagram socket is on one worker, however many there are: its callbacks never overlap, whatever other
 * threads do, and its messages keep their order in both directions.
 */
#include "dgram.h"

#include <unistd.h>

enum { PEERS = 8, WINDOW = 10 };

typedef struct life {
    atomic_int inside;
    uint32_t received; /* not atomic: a race would show under TSan, and as a hole in the order */
    _Atomic uint64_t conn;
    pthread_t worker;
    bool closed;
} life;

static life lives[PEERS];
static atomic_int opened;
static latch closed = LATCH_INIT;
static atomic_bool done;
static uint32_t messages;

static void enter(life *life) {
    CHECK_EQ(life->inside++, 0);
    CHECK(!life->closed);
    CHECK(pthread_equal(life->worker, pthread_self()));
}

static void leave(life *life) {
    CHECK_EQ(--life->inside, 0);
}

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    int number = opened++;
    CHECK(number < PEERS);
    life *life = &lives[number];
    CHECK_OK(ahoy_conn_set_user(conn, life, NULL));
    life->worker = pthread_self();
    enter(life);
    life->conn = conn.id;
    leave(life);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    life *life = user;
    uint32_t number;
    enter(life);
    CHECK_EQ(len, sizeof number);
    memcpy(&number, data, len);
    CHECK_EQ(number, life->received++);
    CHECK_OK(ahoy_send(conn, data, len));
    leave(life);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    CHECK_STATUS(reason, AHOY_ERR_STOPPED);
    life *life = user;
    enter(life);
    life->closed = true;
    leave(life);
    latch_add(&closed, 1);
    (void)conn;
}

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn;
    enter(user);
    leave(user);
}

/* Timers and user data from outside, so that several reasons for a callback coincide. */
static void *meddle(void *unused) {
    (void)unused;
    for (unsigned i = 0; !done; i++) {
        life *life = &lives[i % PEERS];
        ahoy_conn conn = { life->conn };
        if (conn.id) (void)ahoy_conn_timer_start(conn, 0, 0, on_timer, life, NULL, NULL);
        if (i % PEERS == 0) wait_moment();
    }
    return NULL;
}

static void *peer(void *server) {
    int fd = dgram_dial(*(ahoy_server *)server, 0, NULL);
    for (uint32_t sent = 0, heard = 0; heard < messages;) {
        for (; sent < messages && sent - heard < WINDOW; sent++) dgram_send(fd, &sent, sizeof sent);
        dgram_expect(fd, &heard, sizeof heard);
        heard++;
    }
    close(fd);
    return NULL;
}

int main(void) {
    messages = (uint32_t)rounds(2000);
    ahoy_server server = start(OPTIONS(.listen = "udp://127.0.0.1:0", .workers = 4, .on_open = on_open,
                                       .on_message = on_message, .on_close = on_close));
    pthread_t peers[PEERS], meddlers[2];
    for (int i = 0; i < 2; i++) CHECK(!pthread_create(&meddlers[i], NULL, meddle, NULL));
    for (int i = 0; i < PEERS; i++) CHECK(!pthread_create(&peers[i], NULL, peer, &server));
    for (int i = 0; i < PEERS; i++) CHECK(!pthread_join(peers[i], NULL));
    done = true;
    for (int i = 0; i < 2; i++) CHECK(!pthread_join(meddlers[i], NULL));
    CHECK_EQ(opened, PEERS);
    for (int i = 0; i < PEERS; i++) CHECK_EQ(lives[i].received, messages);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&closed), PEERS);
    return 0;
}
