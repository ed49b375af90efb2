/*
 * Everything at once: threads call everything on everything, servers are stopped and freed under them and
 * started again, clients come, talk, and vanish. Whatever happens, the books balance: one on_close for
 * each on_open, one on_free for all that was accepted, and nothing is left.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { SERVERS = 3, CLIENTS = 2, ACTORS = 4, HANDLES = 64, LIVES = 20 };

/* One life of a server, from start to free; its `user`. */
typedef struct life {
    atomic_long opened, closed;
    atomic_int freed;
} life;

static _Atomic uint64_t servers[SERVERS], conns[HANDLES];
static char urls[SERVERS][64];
static atomic_bool stopped[SERVERS], done;
static atomic_long sends_accepted, sends_freed, users_accepted, users_freed;
static life lives[SERVERS][LIVES];

static uint64_t next_random(void) {
    static atomic_ulong threads;
    static _Thread_local uint64_t state;
    if (!state) state = ++threads * 0x9E3779B97F4A7C15u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static void free_send(void *memory) {
    free(memory);
    sends_freed++;
}

static void free_user(void *user) {
    (void)user;
    users_freed++;
}

static void send_owned(ahoy_conn conn) {
    size_t len = next_random() % 8 ? next_random() % 100 : next_random() % 100000;
    char *memory = calloc(1, len + 1);
    if (ahoy_send_owned(conn, memory, len, free_send, memory) == AHOY_OK) sends_accepted++;
    else free(memory);
}

/* One random call; inside callbacks as well as outside of them. */
static void act(void) {
    ahoy_conn conn = { conns[next_random() % HANDLES] };
    uint64_t place = next_random() % SERVERS;
    ahoy_server server = { servers[place] };
    char text[128];
    switch (next_random() % 16) {
    case 0: ahoy_conn_close(conn); break;
    case 1: ahoy_conn_pause(conn); break;
    case 2: case 3: ahoy_conn_resume(conn); break;
    case 4: case 5: send_owned(conn); break;
    case 6: ahoy_conn_greet(conn); break;
    case 7: ahoy_conn_peer(conn, text, sizeof text); break;
    case 8:
        /* The server's own life stays its user, so that the callbacks find it. */
        if (ahoy_conn_set_user(conn, ahoy_conn_user(conn), free_user) == AHOY_OK) users_accepted++;
        break;
    case 9: ahoy_server_address(server, 0, text, sizeof text); break;
    case 10: (void)ahoy_server_stats(server, &(ahoy_stats){ .size = sizeof(ahoy_stats) }); break;
    case 11:
        if (next_random() % 50000) break;
        stopped[place] = true;
        ahoy_server_stop(server, (int32_t)(next_random() % 3) - 1);
        break;
    default: ahoy_send(conn, "some bytes", next_random() % 10); break;
    }
}

static void on_open(ahoy_conn conn, void *user) {
    life *life = user;
    CHECK(!life->freed);
    life->opened++;
    conns[next_random() % HANDLES] = conn.id;
    act();
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    ahoy_send(conn, data, len);
    conns[next_random() % HANDLES] = conn.id;
    act();
}

static void on_writable(ahoy_conn conn, void *user) {
    (void)conn, (void)user;
    act();
}

static void on_end(ahoy_conn conn, void *user) {
    (void)user;
    act();
    CHECK_OK(ahoy_conn_close(conn));
}

static atomic_long closed_total;

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason, (void)user;
    closed_total++;
    act();
}

static atomic_long freed_total;

static void on_free(void *user) {
    life *life = user;
    CHECK_EQ(life->freed++, 0);
    freed_total++;
}

static void *actor(void *unused) {
    while (!done) act();
    return unused;
}

static void *client(void *unused) {
    while (!done) {
        int fd = try_dial_url(urls[next_random() % SERVERS]);
        if (fd < 0) continue;
        for (uint64_t rest = next_random() % 4; rest > 0; rest--) {
            static char bytes[5000];
            (void)!send(fd, bytes, next_random() % sizeof bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (next_random() % 2) (void)!recv(fd, (char[4096]){ 0 }, 4096, MSG_DONTWAIT);
        }
        if (next_random() % 4 == 0) shutdown(fd, SHUT_WR);
        close(fd);
    }
    return unused;
}

static void start_one(int place, life *life) {
    stopped[place] = false; /* before anybody can stop the new one */
    ahoy_server server = start(OPTIONS(
        .listen = urls[place], .workers = 1 + (int32_t)(next_random() % 3), .user = life,
        .queue_bytes_max = 200000, .message_bytes_max = 150000, .idle_ms = 1000, .drain_ms = 50,
        .on_open = on_open, .on_message = on_message, .on_writable = on_writable,
        .on_end = next_random() % 2 ? on_end : NULL, .on_close = on_close, .on_free = on_free));
    servers[place] = server.id;
}

int main(void) {
    deadline_seconds(120);
    holdings before = holdings_now();
    pthread_t threads[ACTORS + CLIENTS];
    long count = rounds(LIVES), opened = 0;
    for (int place = 0; place < SERVERS; place++) {
        snprintf(urls[place], sizeof urls[place], "%s", abstract_url());
        start_one(place, &lives[place][0]);
    }
    for (int i = 0; i < ACTORS + CLIENTS; i++) {
        CHECK(!pthread_create(&threads[i], NULL, i < ACTORS ? actor : client, NULL));
    }
    for (long round = 1; round <= count; round++) {
        for (int place = 0; place < SERVERS; place++) {
            long goal = closed_total + 50;
            WAIT_UNTIL(closed_total >= goal || stopped[place] || round == count);
            ahoy_server_free((ahoy_server){ servers[place] });
            CHECK_EQ(lives[place][round - 1].freed, 1);
            if (round < count) start_one(place, &lives[place][round]);
        }
    }
    done = true;
    for (int i = 0; i < ACTORS + CLIENTS; i++) CHECK(!pthread_join(threads[i], NULL));
    for (int place = 0; place < SERVERS; place++) {
        for (long round = 0; round < count; round++) opened += lives[place][round].opened;
    }
    CHECK_EQ(freed_total, SERVERS * count);
    CHECK_EQ(closed_total, opened);
    CHECK_EQ(sends_freed, sends_accepted);
    CHECK_EQ(users_freed, users_accepted);
    CHECK_HOLDINGS(before);
    printf("%ld connections, %ld owned sends, %ld users\n", opened, sends_accepted, users_accepted);
    return 0;
}
