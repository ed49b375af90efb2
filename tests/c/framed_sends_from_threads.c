/*
 * Many threads send to one connection at once, in every kind of send, while its callbacks send as well: each
 * message arrives whole in its own frame, each thread's in the order of its calls.
 */
#include "wire.h"

#include <arpa/inet.h>
#include <unistd.h>

enum { THREADS = 4, MESSAGES = 2000, MESSAGE_MAX = 600 };

static tally seen = TALLY_INIT;

/* Whose it is, the how-manieth, and letters that depend on both. */
typedef struct head {
    uint32_t sender, number;
} head;

static size_t compose(char *message, uint32_t sender, uint32_t number) {
    uint64_t chance = (uint64_t)sender << 32 | number;
    size_t len = random_below(&chance, MESSAGE_MAX - sizeof(head));
    memcpy(message, &(head){ sender, number }, sizeof(head));
    letters_fill(message + sizeof(head), len, sender + number);
    return sizeof(head) + len;
}

static ahoy_status send_one(ahoy_conn conn, uint32_t sender, uint32_t number) {
    char *message = malloc(MESSAGE_MAX);
    size_t len = compose(message, sender, number);
    ahoy_status status;
    if (number % 3 == 0) {
        status = ahoy_send_owned(conn, message, len, free, message);
        if (status) free(message);
        return status;
    }
    const ahoy_part parts[] = { { message, 3 }, { message + 3, len - 3 } };
    status = number % 3 == 1 ? ahoy_send(conn, message, len) : ahoy_send_parts(conn, parts, 2);
    free(message);
    return status;
}

static void *send_many(void *arg) {
    uint32_t sender = (uint32_t)(uintptr_t)arg;
    for (uint32_t number = 0; number < (uint32_t)rounds(MESSAGES);) {
        ahoy_status status = send_one(tally_conn(&seen), sender, number);
        if (status == AHOY_ERR_AGAIN) {
            wait_moment();
            continue;
        }
        CHECK_OK(status);
        number++;
    }
    return NULL;
}

/* The callbacks are one more sender. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    static uint32_t number;
    ahoy_status status = send_one(conn, THREADS, number);
    if (status == AHOY_OK) number++;
    else CHECK_STATUS(status, AHOY_ERR_AGAIN);
    latch_add(&seen.messages, status == AHOY_OK);
}

static void receive_one(int fd, uint32_t *expected) {
    char message[MESSAGE_MAX], got[MESSAGE_MAX];
    uint32_t len;
    head head;
    recv_exact(fd, &len, sizeof len);
    len = ntohl(len);
    CHECK(len >= sizeof head && len <= MESSAGE_MAX);
    recv_exact(fd, got, len);
    memcpy(&head, got, sizeof head);
    CHECK(head.sender <= THREADS);
    CHECK_EQ(head.number, expected[head.sender]);
    expected[head.sender]++;
    CHECK_EQ(len, compose(message, head.sender, head.number));
    CHECK(memcmp(got, message, len) == 0);
}

int main(void) {
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen,
                                       .framing = AHOY_FRAMING_LENGTH, .queue_bytes_max = 100000,
                                       .on_open = tally_open, .on_message = on_message));
    int fd = dial(server);
    latch_wait(&seen.opened, 1);
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, send_many, (void *)i));
    uint32_t expected[THREADS + 1] = { 0 };
    long count = rounds(MESSAGES);
    for (long i = 0; i < THREADS * count; i++) {
        if (i % 8 == 0) wire_send(&wires[4], fd, "more", 4);
        receive_one(fd, expected);
    }
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    /* What the callbacks sent took some of the places above: that much is still to come. */
    while (expected[0] + expected[1] + expected[2] + expected[3] < THREADS * count) receive_one(fd, expected);
    for (int i = 0; i < THREADS; i++) CHECK_EQ(expected[i], count);
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    CHECK_OK(ahoy_server_wait(server));
    while (expected[THREADS] < latch_count(&seen.messages)) receive_one(fd, expected);
    char end;
    CHECK_EQ(recv_until_eof(fd, &end, 1), 0);
    CHECK(expected[THREADS] > 0);
    close(fd);
    ahoy_server_free(server);
    return 0;
}
