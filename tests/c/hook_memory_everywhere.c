/*
 * Memory is refused once, at each place in turn where a call asks for it: the call answers AHOY_ERR_MEMORY and has
 * taken nothing over, or it was not needed. Where it was accepted from outside and then refused to the worker, the
 * connection that it was for is closed (AHOY_ERR_MEMORY). What the call was about works the next time.
 */
#include "hooks.h"
#include "wire.h"

#include <errno.h>
#include <unistd.h>

enum { PLACES_MAX = 100, LARGE_BYTES = 100000 };

static tally seen;
static latch freed, heard, fired;
static ahoy_server server;
static ahoy_conn conn;
static long calls_taken;
static char large[LARGE_BYTES];

static void on_timer(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)conn, (void)user;
    latch_add(&fired, 1);
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server, (void)topic, (void)data, (void)len, (void)user;
    latch_add(&heard, 1);
}

/* Each round something that was not there before: what is there may need no memory. */
static const char *fresh_name(void) {
    static char name[256];
    static int number;
    memset(name, 'n', sizeof name - 1);
    snprintf(name, sizeof name, "%d", number++);
    name[strlen(name)] = 'n';
    return name;
}

static ahoy_status join(void) {
    return ahoy_conn_join(conn, fresh_name());
}

static ahoy_status publish(void) {
    return ahoy_publish(server, "member", large, sizeof large);
}

static ahoy_status publish_to_nobody(void) {
    return ahoy_publish(server, fresh_name(), large, sizeof large);
}

static ahoy_status subscribe(void) {
    return ahoy_subscribe(server, fresh_name(), on_topic, &freed, count_free, NULL);
}

static ahoy_status server_timer(void) {
    return ahoy_timer_start(server, 3600000, 0, on_timer, &freed, count_free, NULL);
}

static ahoy_status conn_timer(void) {
    return ahoy_conn_timer_start(conn, 3600000, 0, on_timer, &freed, count_free, NULL);
}

static ahoy_status send_parts(void) {
    ahoy_part parts[200];
    for (int i = 0; i < 200; i++) parts[i] = (ahoy_part){ large + i * 100, 100 };
    return ahoy_send_parts(conn, parts, 200);
}

static ahoy_status send_owned(void) {
    return ahoy_send_owned(conn, large, sizeof large, count_free, &freed);
}

typedef struct attempt {
    const char *name;
    ahoy_status (*call)(void);
    bool takes_over; /* an on_free, if it succeeds */
} attempt;

static const attempt attempts[] = {
    { "ahoy_conn_join", join, false },
    { "ahoy_publish", publish, false },
    { "ahoy_publish to nobody", publish_to_nobody, false },
    { "ahoy_subscribe", subscribe, true },
    { "ahoy_timer_start", server_timer, true },
    { "ahoy_conn_timer_start", conn_timer, true },
    { "ahoy_send_parts", send_parts, false },
    { "ahoy_send_owned", send_owned, true },
};
enum { ATTEMPTS = sizeof attempts / sizeof attempts[0] };

static bool by_own_loop;

/* What was posted is carried out here and now, so that each place of the worker has its turn, too. */
static ahoy_status call_and_turn(const attempt *attempt) {
    ahoy_status status = attempt->call();
    if (by_own_loop) {
        for (int i = 0; i < 3; i++) CHECK_OK(ahoy_server_turn(server, 0));
    }
    return status;
}

static void connect_anew(void);

static void try_each_place(const attempt *attempt) {
    int refused = 0, closed = 0;
    for (int place = 0;; place++) {
        CHECK(place < PLACES_MAX);
        ahoy_test_fail("memory", ENOMEM, place, 1);
        ahoy_status status = call_and_turn(attempt);
        int asked = ahoy_test_calls("memory");
        ahoy_test_fail("memory", 0, 0, 0);
        if (status) CHECK_STATUS(status, AHOY_ERR_MEMORY);
        refused += status == AHOY_ERR_MEMORY;
        calls_taken += status == AHOY_OK && attempt->takes_over;
        if (latch_count(&seen.closed) > 0) {
            CHECK_STATUS(seen.reason, AHOY_ERR_MEMORY);
            CHECK(by_own_loop && status == AHOY_OK);
            connect_anew();
            closed++;
        }
        if (asked <= place) break;
    }
    printf("%s: refused at %d places, closed at %d\n", attempt->name, refused, closed);
    CHECK_OK(call_and_turn(attempt));
    calls_taken += attempt->takes_over;
}

static const attempt *attempted;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    if (len && *(const char *)data == '!') try_each_place(attempted);
    else CHECK_OK(ahoy_send(conn, data, len));
    (void)user;
    latch_add(&seen.messages, 1);
}

static int peer = -1;
static pthread_t reader;

/* The peer reads all the time. */
static void *read_all(void *fd) {
    char buffer[65536];
    (void)recv_until_eof((int)(intptr_t)fd, buffer, sizeof buffer); /* a connection that is closed may be reset */
    return NULL;
}

static void turn_until(latch *latch, long count) {
    while (by_own_loop && latch_count(latch) < count) CHECK_OK(ahoy_server_turn(server, 100));
    latch_wait(latch, count);
}

static void disconnect(void) {
    CHECK(!pthread_join(reader, NULL));
    close(peer);
    peer = -1;
}

static void connect_anew(void) {
    if (peer >= 0) disconnect();
    seen.opened = seen.closed = (latch)LATCH_INIT;
    peer = dial(server);
    turn_until(&seen.opened, 1);
    conn = tally_conn(&seen);
    CHECK_OK(ahoy_conn_join(conn, "member"));
    CHECK(!pthread_create(&reader, NULL, read_all, (void *)(intptr_t)peer));
}

static void try_all(int32_t workers) {
    by_own_loop = workers == AHOY_WORKERS_NONE;
    seen = (tally)TALLY_INIT;
    freed = heard = fired = (latch)LATCH_INIT;
    calls_taken = 0;
    server = start(OPTIONS(.listen = LOOPBACK, .workers = workers, .user = &seen, .framing = AHOY_FRAMING_LENGTH,
                           .queue_bytes_max = 64 << 20, .on_open = tally_open, .on_message = on_message,
                           .on_close = tally_close));
    CHECK_OK(ahoy_subscribe(server, "member", on_topic, NULL, NULL, NULL));
    connect_anew();
    for (int i = 0; i < ATTEMPTS; i++) {
        attempted = &attempts[i];
        if (by_own_loop) {
            try_each_place(attempted);
        } else {
            wire_send(&wires[4], peer, "!", 1);
            latch_wait(&seen.messages, i + 1);
        }
    }
    turn_until(&heard, 1); /* the last publish at least */
    CHECK_EQ(latch_count(&fired), 0);

    /* Everything is as good as before. */
    long before = latch_count(&seen.messages);
    wire_send(&wires[4], peer, "echo", 4);
    turn_until(&seen.messages, before + 1);
    CHECK_EQ(latch_count(&seen.closed), 0);
    CHECK_OK(ahoy_conn_close(conn));
    turn_until(&seen.closed, 1);
    disconnect();
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), calls_taken);
}

int main(void) {
    try_all(1);
    try_all(2);
    try_all(AHOY_WORKERS_NONE);
    return 0;
}
