/*
 * Ten threads send to connections that stay and to connections that come and go. Nothing that was
 * accepted for a connection that stays is lost, and each thread's sends arrive in their order.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { SENDERS = 10, STAYING = 8, PASSING = 32 };

/* What every sender sends: who it is, and the how-many-eth it is for that connection. */
typedef struct record {
    uint32_t sender, number;
} record;

static _Atomic uint64_t staying[STAYING], passing[PASSING];
static atomic_bool done;
static uint32_t accepted[SENDERS][STAYING];
static tally seen = TALLY_INIT;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

/* A client tells with its first byte which place its connection takes. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    unsigned char place = *(const unsigned char *)data;
    CHECK_EQ(len, 1);
    if (place < STAYING) staying[place] = conn.id;
    else passing[place - STAYING] = conn.id;
    tally_message(conn, data, len, user);
}

static void *sender(void *arg) {
    uint32_t self = (uint32_t)(uintptr_t)arg;
    uint64_t random = self * 2654435761u + 1;
    for (long i = 0; i < rounds(40000); i++) {
        uint32_t place = (uint32_t)(next_random(&random) % STAYING);
        record record = { self, accepted[self][place] };
        ahoy_status status = ahoy_send((ahoy_conn){ staying[place] }, &record, sizeof record);
        if (status == AHOY_OK) accepted[self][place]++;
        else CHECK_STATUS(status, AHOY_ERR_AGAIN);

        ahoy_conn other = { passing[next_random(&random) % PASSING] };
        status = ahoy_send(other, &record, sizeof record);
        CHECK(status == AHOY_OK || status == AHOY_ERR_AGAIN || status == AHOY_ERR_CLOSED ||
              status == AHOY_ERR_STALE);
    }
    return NULL;
}

/* Connections come and go while the others are sent to. */
static void *come_and_go(void *arg) {
    ahoy_server server = { *(uint64_t *)arg };
    uint64_t random = 88172645463325252u;
    while (!done) {
        unsigned char place = (unsigned char)(STAYING + next_random(&random) % PASSING);
        char some[64];
        int fd = dial(server);
        send_all(fd, &place, 1);
        ssize_t got = recv(fd, some, sizeof some, MSG_DONTWAIT);
        if (got > 0 && got % 2) close_reset(fd);
        else close(fd);
    }
    return NULL;
}

/* Reads what a staying connection gets until its end: each sender's numbers run up without a hole. */
static void *reader(void *arg) {
    int fd = *(int *)arg;
    static _Thread_local uint32_t next[SENDERS];
    record record;
    size_t filled = 0;
    ssize_t got;
    while ((got = recv(fd, (char *)&record + filled, sizeof record - filled, 0)) > 0) {
        filled += (size_t)got;
        if (filled < sizeof record) continue;
        filled = 0;
        CHECK(record.sender < SENDERS);
        CHECK_EQ(record.number, next[record.sender]);
        next[record.sender]++;
    }
    CHECK_EQ(got, 0);
    CHECK_EQ(filled, 0);
    uint32_t *totals = malloc(sizeof next);
    memcpy(totals, next, sizeof next);
    return totals;
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .on_message = on_message, .on_close = tally_close));
    pthread_t senders[SENDERS], passer, readers[STAYING];
    int fds[STAYING];
    for (int i = 0; i < STAYING; i++) {
        unsigned char place = (unsigned char)i;
        fds[i] = dial(server);
        send_all(fds[i], &place, 1);
        CHECK(!pthread_create(&readers[i], NULL, reader, &fds[i]));
    }
    latch_wait(&seen.messages, STAYING);

    CHECK(!pthread_create(&passer, NULL, come_and_go, &server.id));
    for (uintptr_t i = 0; i < SENDERS; i++) {
        CHECK(!pthread_create(&senders[i], NULL, sender, (void *)i));
    }
    for (int i = 0; i < SENDERS; i++) CHECK(!pthread_join(senders[i], NULL));
    done = true;
    CHECK(!pthread_join(passer, NULL));

    /* A stop sends what is queued. */
    CHECK_OK(ahoy_server_stop(server, 60000));
    for (int place = 0; place < STAYING; place++) {
        void *totals;
        CHECK(!pthread_join(readers[place], &totals));
        for (int i = 0; i < SENDERS; i++) CHECK_EQ(((uint32_t *)totals)[i], accepted[i][place]);
        free(totals);
        close(fds[place]);
    }
    CHECK_OK(ahoy_server_wait(server));
    ahoy_server_free(server);
    return 0;
}
