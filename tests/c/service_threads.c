/*
 * Many threads call one service of a server with several workers: each call has its own answer, exactly one, and the
 * handlers run on every worker.
 */
#include "support.h"

#include <pthread.h>

enum { WORKERS = 3, THREADS = 4, EACH = 5000, IN_FLIGHT = 64 };

static ahoy_server server;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_t seen[WORKERS];
static int seen_count;
static latch freed = LATCH_INIT;

static void twice(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)user;
    pthread_mutex_lock(&mutex);
    int at = 0;
    while (at < seen_count && !pthread_equal(seen[at], pthread_self())) at++;
    CHECK(at < WORKERS);
    if (at == seen_count) seen[seen_count++] = pthread_self();
    pthread_mutex_unlock(&mutex);
    uint64_t number;
    CHECK_EQ(len, sizeof number);
    memcpy(&number, data, sizeof number);
    number *= 2;
    CHECK_OK(ahoy_reply(call, &number, sizeof number));
}

typedef struct question {
    uint64_t number;
    latch *told;
    atomic_int count;
} question;

static void on_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from;
    question *question = user;
    uint64_t number;
    CHECK_OK(status);
    CHECK_EQ(len, sizeof number);
    memcpy(&number, data, sizeof number);
    CHECK_EQ(number, 2 * question->number);
    CHECK_EQ(question->count++, 0);
    latch_add(question->told, 1);
}

static void *ask(void *argument) {
    long each = rounds(EACH);
    latch told = LATCH_INIT;
    question *questions = calloc((size_t)each, sizeof *questions);
    for (long i = 0; i < each; i++) {
        questions[i].number = (uint64_t)i + (uint64_t)(uintptr_t)argument * 1000000;
        questions[i].told = &told;
        CHECK_OK(ahoy_call(server, "twice", &questions[i].number, sizeof questions[i].number, NULL, on_reply,
                           &questions[i]));
        if (i >= IN_FLIGHT) latch_wait(&told, i - IN_FLIGHT);
    }
    latch_wait(&told, each);
    free(questions);
    return NULL;
}

int main(void) {
    holdings before = holdings_now();
    pthread_t threads[THREADS];
    server = start(OPTIONS(.workers = WORKERS));
    CHECK_OK(ahoy_service(server, "twice", NULL, twice, &freed, count_free, NULL));
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, ask, (void *)i));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK_EQ(seen_count, WORKERS);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), 1);
    CHECK_HOLDINGS(before);
    return 0;
}
