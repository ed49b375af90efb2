/*
 * Four threads publish at once to members on two workers: each member, and each subscriber, gets all of it, what one
 * thread has published in its order.
 */
#include "wire.h"

#include <unistd.h>

enum { PUBLISHERS = 4, MEMBERS = 6, SUBSCRIBERS = 3, MESSAGES = 3000 };

static tally seen = TALLY_INIT;
static ahoy_server server;
static long messages;

typedef struct head {
    uint32_t publisher, number;
} head;

/* What one of those who hear has heard so far of each publisher. */
typedef struct ear {
    uint32_t next[PUBLISHERS];
    atomic_int inside;
    latch heard;
} ear;

static ear ears[SUBSCRIBERS];

static void hear(ear *ear, const void *data, size_t len) {
    head head;
    CHECK_EQ(len, sizeof head);
    memcpy(&head, data, sizeof head);
    CHECK(head.publisher < PUBLISHERS);
    CHECK_EQ(head.number, ear->next[head.publisher]);
    ear->next[head.publisher]++;
}

static void on_topic(ahoy_server server, const char *topic, const void *data, size_t len, void *user) {
    (void)server;
    ear *ear = user;
    CHECK_EQ(ear->inside++, 0);
    CHECK_TEXT(topic, "order");
    hear(ear, data, len);
    CHECK_EQ(--ear->inside, 0);
    latch_add(&ear->heard, 1);
}

static void *publish(void *arg) {
    head head = { (uint32_t)(uintptr_t)arg, 0 };
    while (head.number < (uint32_t)messages) {
        ahoy_status status = ahoy_publish(server, "order", &head, sizeof head);
        if (status == AHOY_ERR_AGAIN) {
            wait_moment();
            continue;
        }
        CHECK_OK(status);
        head.number++;
    }
    return NULL;
}

static void *listen_to_all(void *fd) {
    ear ear = { .heard = LATCH_INIT };
    char frame[4 + sizeof(head)], expected[4 + sizeof(head)];
    for (long i = 0; i < PUBLISHERS * messages; i++) {
        recv_exact(*(int *)fd, frame, sizeof frame);
        wire_encode(&wires[4], frame + 4, sizeof(head), expected);
        CHECK(memcmp(frame, expected, sizeof frame) == 0);
        hear(&ear, frame + 4, sizeof(head));
    }
    return NULL;
}

int main(void) {
    messages = rounds(MESSAGES);
    /* The queues hold all of it, so that nobody misses anything. */
    server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .framing = AHOY_FRAMING_LENGTH,
                           .queue_bytes_max = 64 << 20, .on_open = tally_open, .on_message = tally_message));
    pthread_t publishers[PUBLISHERS], listeners[MEMBERS];
    int fds[MEMBERS];
    for (int i = 0; i < MEMBERS; i++) {
        fds[i] = dial(server);
        latch_wait(&seen.opened, i + 1);
        CHECK_OK(ahoy_conn_join(tally_conn(&seen), "order"));
        CHECK(!pthread_create(&listeners[i], NULL, listen_to_all, &fds[i]));
    }
    for (int i = 0; i < SUBSCRIBERS; i++) {
        ears[i].heard = (latch)LATCH_INIT;
        CHECK_OK(ahoy_subscribe(server, "order", on_topic, &ears[i], NULL, NULL));
    }
    for (uintptr_t i = 0; i < PUBLISHERS; i++) {
        CHECK(!pthread_create(&publishers[i], NULL, publish, (void *)i));
    }
    for (int i = 0; i < PUBLISHERS; i++) CHECK(!pthread_join(publishers[i], NULL));
    for (int i = 0; i < MEMBERS; i++) CHECK(!pthread_join(listeners[i], NULL));
    for (int i = 0; i < SUBSCRIBERS; i++) latch_wait(&ears[i].heard, PUBLISHERS * messages);

    ahoy_stats stats = stats_of(server);
    CHECK_EQ(stats.published, PUBLISHERS * messages);
    CHECK_EQ(stats.published_dropped, 0);
    CHECK_EQ(stats.messages_out, MEMBERS * PUBLISHERS * messages);
    ahoy_server_free(server);
    for (int i = 0; i < MEMBERS; i++) close(fds[i]);
    for (int i = 0; i < SUBSCRIBERS; i++) CHECK_EQ(latch_count(&ears[i].heard), PUBLISHERS * messages);
    return 0;
}
