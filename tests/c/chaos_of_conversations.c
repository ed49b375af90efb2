/*
 * Framing, timers, topics, half-closes and aborts, all at once: threads and callbacks call everything on everything
 * while clients send whole messages, halves and nonsense, and vanish. When they are gone nothing is counted any
 * more; when the server is, all that was lent to it has been given back, once.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 3, ACTORS = 3, HANDLES = 32, TOPICS = 5, LIVES = 6, CONVERSATIONS = 150, MESSAGE_MAX = 20000 };

static ahoy_server server;
static _Atomic uint64_t conns[HANDLES], timers[HANDLES], subscriptions[HANDLES];
static atomic_bool done;
static atomic_long accepted, freed, opened, closed, drained, clients_left;
static atomic_int ended;

static uint32_t chance(uint32_t bound) {
    static atomic_ulong threads;
    static _Thread_local uint64_t state;
    if (!state) state = ++threads << 32;
    return random_below(&state, bound);
}

static ahoy_conn any_conn(void) {
    return (ahoy_conn){ conns[chance(HANDLES)] };
}

static const char *any_topic(void) {
    static const char *const topics[TOPICS] = { "a", "b", "c", "d", "e" };
    return topics[chance(TOPICS)];
}

/* Each loan is memory that a sanitizer watches. */
static void *lend(size_t len) {
    return calloc(1, len + 1);
}

static void give_back(void *loan) {
    free(loan);
    freed++;
}

static void settle(ahoy_status status, void *loan) {
    if (status == AHOY_OK) accepted++;
    else free(loan);
}

static void act(void);

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *loan) {
    (void)timer, (void)conn;
    *(char *)loan = 1;
    act();
}

static void on_topic(ahoy_server from, const char *topic, const void *data, size_t len, void *loan) {
    (void)topic, (void)data, (void)len;
    CHECK_EQ(from.id, server.id);
    *(char *)loan = 1;
    if (chance(64) == 0) act(); /* rarely: a publish would lead to several more */
}

static void lend_something(void) {
    ahoy_timer timer = { 0 };
    ahoy_subscription subscription = { 0 };
    size_t len = chance(4) ? chance(100) : chance(20000);
    void *loan = lend(len);
    switch (chance(4)) {
    case 0:
        settle(ahoy_send_owned(any_conn(), loan, len, give_back, loan), loan);
        break;
    case 1:
        settle(ahoy_timer_start(server, chance(20), chance(3), on_timer, loan, give_back, &timer), loan);
        break;
    case 2:
        settle(ahoy_conn_timer_start(any_conn(), chance(20), chance(3), on_timer, loan, give_back, &timer), loan);
        break;
    default:
        settle(ahoy_subscribe(server, any_topic(), on_topic, loan, give_back, &subscription), loan);
    }
    /* One comes and one goes, so that they do not become more and more. */
    if (timer.id) ahoy_timer_cancel((ahoy_timer){ atomic_exchange(&timers[chance(HANDLES)], timer.id) });
    if (subscription.id) {
        uint64_t before = atomic_exchange(&subscriptions[chance(HANDLES)], subscription.id);
        ahoy_unsubscribe((ahoy_subscription){ before });
    }
}

/* One random call; inside callbacks as well as outside of them. */
static void act(void) {
    static const char bytes[5000];
    const ahoy_part parts[] = { { bytes, chance(10) }, { bytes, chance(2000) }, { NULL, 0 } };
    if (done) return;
    switch (chance(20)) {
    case 0: case 1: lend_something(); break;
    case 2: ahoy_timer_cancel((ahoy_timer){ timers[chance(HANDLES)] }); break;
    case 3: ahoy_unsubscribe((ahoy_subscription){ subscriptions[chance(HANDLES)] }); break;
    case 4: case 5: case 6: ahoy_conn_join(any_conn(), any_topic()); break;
    case 7: ahoy_conn_leave(any_conn(), any_topic()); break;
    case 8: ahoy_publish(server, any_topic(), bytes, chance(chance(8) ? 50 : sizeof bytes)); break;
    case 9: ahoy_conn_pause(any_conn()); break;
    case 10: case 11: ahoy_conn_resume(any_conn()); break;
    case 12: if (chance(8) == 0) ahoy_conn_end(any_conn()); break;
    case 13: if (chance(16) == 0) ahoy_conn_abort(any_conn()); break;
    case 14: if (chance(16) == 0) ahoy_conn_close(any_conn()); break;
    case 15: ahoy_send_parts(any_conn(), parts, 3); break;
    case 16: CHECK(ahoy_conn_queued(any_conn()) < SIZE_MAX / 2); break;
    case 17: ahoy_conn_greet(any_conn()); break;
    default: ahoy_send(any_conn(), bytes, chance(100)); break;
    }
}

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    opened++;
    conns[chance(HANDLES)] = conn.id;
    ahoy_conn_join(conn, any_topic());
    act();
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    size_t zeros = 0;
    for (size_t i = 0; i < len; i++) zeros += ((const char *)data)[i] == 0; /* all of them are there */
    CHECK(zeros <= len && len <= MESSAGE_MAX);
    conns[chance(HANDLES)] = conn.id;
    if (chance(2)) act();
}

static void on_writable(ahoy_conn conn, void *user) {
    (void)conn, (void)user;
    act();
}

static void on_drain(ahoy_conn conn, void *user) {
    (void)user;
    drained++;
    act();
    if (chance(2)) ahoy_conn_close(conn);
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason, (void)user;
    closed++;
    act();
}

static void on_free(void *user) {
    (void)user;
    CHECK_EQ(ended++, 0);
}

static void *actor(void *unused) {
    while (!done) {
        act();
        if (chance(64) == 0) sched_yield();
    }
    return unused;
}

/* Sends messages of letters, and sometimes the beginning of one, or what is none; reads or does not. */
static void *client(void *unused) {
    static const char nonsense[] = "\xff\xff\xff\xff\r\r\n";
    char letters[600], framed[600 + WIRE_FRAME_MAX], got[8192];
    letters_fill(letters, sizeof letters, 0);
    for (long rest = rounds(CONVERSATIONS); rest > 0; rest--) {
        size_t which = chance(WIRES);
        int fd = dial_listener(server, which);
        for (uint32_t count = chance(20); count > 0; count--) {
            size_t most = wires[which].message_max < sizeof letters ? wires[which].message_max : sizeof letters;
            size_t len = wire_encode(&wires[which], letters, chance((uint32_t)most), framed);
            if (chance(16) == 0) len = chance((uint32_t)len + 1);
            (void)!send(fd, framed, len, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (chance(2)) (void)!recv(fd, got, sizeof got, MSG_DONTWAIT);
        }
        if (chance(16) == 0) (void)!send(fd, nonsense, sizeof nonsense, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (chance(4) == 0) shutdown(fd, SHUT_WR);
        if (chance(4)) close(fd);
        else close_reset(fd);
    }
    clients_left--;
    return unused;
}

static void live(int number) {
    char listen[1024];
    size_t used = 0;
    for (int i = 0; i < WIRES; i++) {
        used += (size_t)sprintf(listen + used, "%s" LOOPBACK "?%s", i ? "," : "", wires[i].query);
    }
    done = false;
    ended = 0;
    opened = closed = accepted = freed = 0;
    clients_left = CLIENTS;
    server = start(OPTIONS(.listen = listen, .workers = 1 + number % 3, .queue_bytes_max = 60000,
                           .queue_total_bytes_max = 300000, .queue_high_bytes = 20000, .message_bytes_max = MESSAGE_MAX,
                           .message_ms = 50, .write_ms = 50, .idle_ms = 500, .drain_ms = 50,
                           .overflow = number % 2 ? AHOY_OVERFLOW_CLOSE : AHOY_OVERFLOW_REFUSE,
                           .on_open = on_open, .on_message = on_message, .on_writable = on_writable,
                           .on_drain = number % 3 ? on_drain : NULL, .on_close = on_close, .on_free = on_free));
    pthread_t threads[ACTORS + CLIENTS];
    for (int i = 0; i < ACTORS + CLIENTS; i++) {
        CHECK(!pthread_create(&threads[i], NULL, i < ACTORS ? actor : client, NULL));
    }
    WAIT_UNTIL(clients_left == 0);
    /* Half of the times all of it still goes on when the server stops. */
    if (number % 2) {
        done = true;
        for (int i = 0; i < ACTORS; i++) CHECK(!pthread_join(threads[i], NULL));
        WAIT_UNTIL(stats_of(server).connections == 0);
        ahoy_stats stats = stats_of(server);
        CHECK_EQ(stats.opened, stats.closed);
        WAIT_UNTIL(stats_of(server).bytes_queued == 0 && stats_of(server).bytes_partial == 0);
    }
    CHECK_OK(ahoy_server_stop(server, number % 4 == 0 ? 0 : AHOY_DRAIN_DEFAULT));
    CHECK_OK(ahoy_server_wait(server));
    done = true;
    for (int i = number % 2 ? ACTORS : 0; i < ACTORS + CLIENTS; i++) CHECK(!pthread_join(threads[i], NULL));
    ahoy_stats stats = stats_of(server);
    printf("%ld connections, %ld loans, %lu published, %lu missed, %lu messages in, %lu out, %lu refused\n",
           (long)opened, (long)accepted, (unsigned long)stats.published, (unsigned long)stats.published_dropped,
           (unsigned long)stats.messages_in, (unsigned long)stats.messages_out,
           (unsigned long)stats.messages_refused);
    CHECK_EQ(stats.bytes_queued, 0);
    CHECK_EQ(stats.bytes_partial, 0);
    CHECK_EQ(stats.timers, 0);
    CHECK_EQ(stats.panics, 0);
    ahoy_server_free(server);
    CHECK_EQ(closed, opened);
    CHECK_EQ(freed, accepted);
    CHECK_EQ(ended, 1);
}

int main(void) {
    deadline_seconds(120);
    holdings before = holdings_now();
    for (int number = 0; number < LIVES; number++) live(number);
    CHECK_HOLDINGS(before);
    return 0;
}
