/*
 * A function that has subscribed hears each message with its server, topic and bytes. It may publish to its own
 * topic, and unsubscribe itself: then it is not called again. Its on_free is called exactly once, whoever ends it.
 */
#include "support.h"

#include <unistd.h>

enum { ECHOES = 50, THREADS = 4, EACH = 500 };

static ahoy_server server;

typedef struct ear {
    latch heard, freed;
    ahoy_subscription subscription;
    char last[64];
    long until; /* unsubscribes itself at this one; 0: never */
    atomic_bool inside;
} ear;

static void free_ear(void *user) {
    ear *ear = user;
    CHECK(!ear->inside);
    latch_add(&ear->freed, 1);
}

static void hear(ahoy_server from, const char *topic, const void *data, size_t len, void *user) {
    ear *ear = user;
    CHECK(!ear->inside);
    ear->inside = true;
    CHECK_EQ(from.id, server.id);
    CHECK_EQ(latch_count(&ear->freed), 0);
    snprintf(ear->last, sizeof ear->last, "%s=%.*s", topic, (int)len, (const char *)data);
    long count = latch_count(&ear->heard) + 1;
    CHECK(ear->until == 0 || count <= ear->until);
    if (count == ear->until) CHECK_OK(ahoy_unsubscribe(ear->subscription));
    ear->inside = false;
    latch_add(&ear->heard, 1);
}

static void begin(ear *ear, const char *topic, ahoy_topic_fn fn) {
    *ear = (struct ear){ .heard = LATCH_INIT, .freed = LATCH_INIT };
    CHECK_OK(ahoy_subscribe(server, topic, fn, ear, free_ear, &ear->subscription));
    CHECK(ear->subscription.id != 0);
}

static void each_message(void) {
    static ear one, two, same;
    begin(&one, "one", hear), begin(&two, "two", hear), begin(&same, "one", hear);
    CHECK_OK(ahoy_publish(server, "one", "first", 5));
    CHECK_OK(ahoy_publish(server, "two", "second", 6));
    CHECK_OK(ahoy_publish(server, "one", NULL, 0));
    latch_wait(&one.heard, 2), latch_wait(&two.heard, 1), latch_wait(&same.heard, 2);
    CHECK_TEXT(one.last, "one=");
    CHECK_TEXT(two.last, "two=second");

    /* One of two in the same topic goes; the other stays. */
    CHECK_OK(ahoy_unsubscribe(one.subscription));
    latch_wait(&one.freed, 1);
    CHECK_STATUS(ahoy_unsubscribe(one.subscription), AHOY_ERR_STALE);
    CHECK_OK(ahoy_publish(server, "one", "third", 5));
    latch_wait(&same.heard, 3);
    CHECK_EQ(latch_count(&one.heard), 2);
    CHECK_OK(ahoy_unsubscribe(same.subscription));
    CHECK_OK(ahoy_unsubscribe(two.subscription));
    latch_wait(&same.freed, 1), latch_wait(&two.freed, 1);
    CHECK_EQ(latch_count(&one.freed) + latch_count(&two.freed) + latch_count(&same.freed), 3);
}

/* Each message leads to the next. */
static void echo(ahoy_server from, const char *topic, const void *data, size_t len, void *user) {
    ear *ear = user;
    long count = latch_count(&ear->heard);
    if (count + 1 < ECHOES) {
        CHECK_OK(ahoy_publish(from, topic, data, len));
        /* It is not called inside its own call. */
        CHECK_EQ(latch_count(&ear->heard), count);
    }
    hear(from, topic, data, len, user);
}

static void to_its_own_topic(void) {
    static ear ear;
    begin(&ear, "echo", echo);
    CHECK_OK(ahoy_publish(server, "echo", "again", 5));
    latch_wait(&ear.heard, ECHOES);
    CHECK_OK(ahoy_unsubscribe(ear.subscription));
    latch_wait(&ear.freed, 1);
    CHECK_EQ(latch_count(&ear.heard), ECHOES);
}

static void *publish_many(void *unused) {
    (void)unused;
    for (long i = rounds(EACH); i > 0; i--) {
        ahoy_status status;
        while ((status = ahoy_publish(server, "busy", "x", 1)) == AHOY_ERR_AGAIN) wait_moment();
        CHECK_OK(status);
    }
    return NULL;
}

/* While much is on its way; a second one, which stays, shows that it has all passed. */
static void unsubscribes_itself(void) {
    static ear leaver, stayer;
    pthread_t threads[THREADS];
    begin(&leaver, "busy", hear), begin(&stayer, "busy", hear);
    leaver.until = 3;
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, publish_many, NULL));
    latch_wait(&leaver.freed, 1);
    CHECK_EQ(latch_count(&leaver.heard), 3);
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    latch_wait(&stayer.heard, THREADS * rounds(EACH));
    CHECK_EQ(latch_count(&leaver.heard), 3);
    CHECK_EQ(latch_count(&leaver.freed), 1);
    CHECK_OK(ahoy_unsubscribe(stayer.subscription));
    latch_wait(&stayer.freed, 1);
    CHECK_EQ(latch_count(&stayer.heard), THREADS * rounds(EACH));
}

/* Others end it while it is called; after on_free it never is. */
static void ended_from_another_thread(void) {
    pthread_t threads[THREADS];
    for (long round = rounds(30); round > 0; round--) {
        ear ear;
        begin(&ear, "busy", hear);
        if (round % 5 == 0) {
            for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, publish_many, NULL));
            latch_wait(&ear.heard, 1);
        }
        CHECK_OK(ahoy_unsubscribe(ear.subscription));
        latch_wait(&ear.freed, 1);
        long heard = latch_count(&ear.heard);
        if (round % 5 == 0) {
            for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
        }
        CHECK_EQ(latch_count(&ear.heard), heard);
        CHECK_EQ(latch_count(&ear.freed), 1);
    }
}

static void subscribe_and_leave(ahoy_server from, const char *topic, const void *data, size_t len, void *user) {
    static ear next;
    begin(&next, "next", hear);
    next.until = 1;
    CHECK_OK(ahoy_publish(from, "next", data, len));
    hear(from, topic, data, len, user);
}

static void subscribes_in_a_callback(void) {
    static ear ear;
    begin(&ear, "chain", subscribe_and_leave);
    ear.until = 1;
    CHECK_OK(ahoy_publish(server, "chain", "link", 4));
    latch_wait(&ear.freed, 1);
    CHECK_TEXT(ear.last, "chain=link");
}

int main(void) {
    for (int32_t workers = 1; workers <= 2; workers++) {
        for (int by_free = 0; by_free <= 1; by_free++) {
            static ear left[3];
            server = start(OPTIONS(.workers = workers));
            for (int i = 0; i < 3; i++) begin(&left[i], "left", hear);
            each_message();
            to_its_own_topic();
            unsubscribes_itself();
            ended_from_another_thread();
            subscribes_in_a_callback();
            /* Those that nobody has ended, the server ends. */
            if (!by_free) {
                CHECK_OK(ahoy_server_stop(server, 0));
                CHECK_OK(ahoy_server_wait(server));
            } else {
                ahoy_server_free(server);
            }
            for (int i = 0; i < 3; i++) CHECK_EQ(latch_count(&left[i].freed), 1);
            CHECK_STATUS(ahoy_unsubscribe(left[0].subscription), AHOY_ERR_STALE);
            ahoy_server_free(server);
            for (int i = 0; i < 3; i++) CHECK_EQ(latch_count(&left[i].freed), 1);
        }
    }
    return 0;
}
