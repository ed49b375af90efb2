/*
 * Whatever the splits and the pauses: on each connection the messages come whole and in order, and what is sent
 * back does too. Connections of every framing at once, on two workers, with a seeded sequence of chances.
 */
#include "wire.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 2 * WIRES, ROUNDS = 60, BATCH_BYTES = 40000, MESSAGE_MAX = 3000 };

typedef struct talk {
    const wire *wire;
    int fd;
    uint64_t chance;        /* of the client */
    uint64_t server_chance; /* of the callbacks, which never overlap */
    size_t client_letters, server_letters; /* every message goes on in the same pattern */
    _Atomic uint64_t conn;
    atomic_bool paused;
} talk;

static talk talks[CLIENTS];
static latch pauses = LATCH_INIT, closed = LATCH_INIT;
static atomic_bool done;

/* One dials at a time: whoever opens is it. */
static atomic_int dialled;

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    talk *talk = &talks[dialled];
    talk->conn = conn.id;
    CHECK_OK(ahoy_conn_set_user(conn, talk, NULL));
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    talk *talk = user;
    CHECK(!talk->paused);
    CHECK(letters_match(data, len, talk->server_letters));
    talk->server_letters += len;
    CHECK_OK(ahoy_send(conn, data, len));
    uint32_t chance = random_below(&talk->server_chance, 16);
    if (chance < 2) CHECK_OK(ahoy_conn_pause(conn));
    if (chance == 0) CHECK_OK(ahoy_conn_resume(conn));
    if (chance == 1) {
        talk->paused = true;
        latch_add(&pauses, 1);
    }
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)user;
    CHECK_STATUS(reason, AHOY_ERR_EOF);
    latch_add(&closed, 1);
}

/* The flag goes first: with the resume the next message may come at once. */
static void *resume_all(void *unused) {
    (void)unused;
    while (!done) {
        for (int i = 0; i < CLIENTS; i++) {
            if (!talks[i].paused) continue;
            talks[i].paused = false;
            ahoy_status status;
            while ((status = ahoy_conn_resume((ahoy_conn){ talks[i].conn })) == AHOY_ERR_AGAIN) wait_moment();
            CHECK(status == AHOY_OK || status == AHOY_ERR_STALE); /* it may have ended meanwhile */
        }
        sched_yield();
    }
    return NULL;
}

/* A batch of messages, sent in random pieces, and the same bytes back: less than the system's buffers hold. */
static void *converse(void *arg) {
    talk *talk = arg;
    enum { CAPACITY = BATCH_BYTES + MESSAGE_MAX + WIRE_FRAME_MAX };
    char *bytes = malloc(CAPACITY), *got = malloc(CAPACITY);
    char message[MESSAGE_MAX];
    uint32_t len_max = talk->wire->message_max < MESSAGE_MAX ? (uint32_t)talk->wire->message_max : MESSAGE_MAX;
    for (long round = rounds(ROUNDS); round > 0; round--) {
        size_t total = 0;
        for (uint32_t count = random_below(&talk->chance, 20); count > 0 && total < BATCH_BYTES; count--) {
            uint32_t bound = random_below(&talk->chance, 3) ? 20 : len_max;
            size_t len = random_below(&talk->chance, bound);
            letters_fill(message, len, talk->client_letters);
            talk->client_letters += len;
            total += wire_encode(talk->wire, message, len, bytes + total);
        }
        for (size_t sent = 0; sent < total;) {
            uint32_t bound = random_below(&talk->chance, 2) ? 30 : 10000;
            size_t piece = 1 + random_below(&talk->chance, bound);
            if (piece > total - sent) piece = total - sent;
            send_all(talk->fd, bytes + sent, piece);
            sent += piece;
            if (!random_below(&talk->chance, 4)) sched_yield();
        }
        recv_exact(talk->fd, got, total);
        CHECK(memcmp(got, bytes, total) == 0);
    }
    close(talk->fd);
    free(bytes), free(got);
    return NULL;
}

int main(void) {
    char listen[1024];
    size_t used = 0;
    for (int i = 0; i < WIRES; i++) {
        used += (size_t)sprintf(listen + used, "%s" LOOPBACK "?%s", i ? "," : "", wires[i].query);
    }
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 2, .on_open = on_open,
                                       .on_message = on_message, .on_close = on_close));
    pthread_t threads[CLIENTS], resumer;
    for (int i = 0; i < CLIENTS; i++) {
        talks[i] = (talk){ .wire = &wires[i % WIRES], .chance = (uint64_t)i, .server_chance = (uint64_t)~i };
        dialled = i;
        talks[i].fd = dial_listener(server, (size_t)i % WIRES);
        WAIT_UNTIL(talks[i].conn != 0);
    }
    CHECK(!pthread_create(&resumer, NULL, resume_all, NULL));
    for (int i = 0; i < CLIENTS; i++) CHECK(!pthread_create(&threads[i], NULL, converse, &talks[i]));
    for (int i = 0; i < CLIENTS; i++) CHECK(!pthread_join(threads[i], NULL));
    latch_wait(&closed, CLIENTS);
    done = true;
    CHECK(!pthread_join(resumer, NULL));
    CHECK(latch_count(&pauses) > 0);
    ahoy_server_free(server);
    return 0;
}
