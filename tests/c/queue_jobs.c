/*
 * The life of a job, without a cluster: done, tried again at once and later, given more time, dropped, dead after its last
 * try, redelivered when nobody says anything; pushed twice with one id; ended twice.
 */
#include "support.h"

enum { JOBS_MAX = 64 };

/* What a handler has got. */
typedef struct desk {
    latch jobs, freed;
    ahoy_job job[JOBS_MAX];
    uint32_t tries[JOBS_MAX];
    char text[JOBS_MAX][16];
    long at_ms[JOBS_MAX];
} desk;

#define DESK_INIT { .jobs = LATCH_INIT, .freed = LATCH_INIT }
#define WORK(...) (&(ahoy_work_options){ .size = sizeof(ahoy_work_options), __VA_ARGS__ })

static void take(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    desk *desk = user;
    pthread_mutex_lock(&lock);
    long at = latch_count(&desk->jobs);
    CHECK(at < JOBS_MAX && len < sizeof desk->text[0]);
    desk->job[at] = job, desk->tries[at] = tries, desk->at_ms[at] = now_ms();
    memcpy(desk->text[at], data, len);
    latch_add(&desk->jobs, 1);
    pthread_mutex_unlock(&lock);
}

static void free_desk(void *user) { latch_add(&((desk *)user)->freed, 1); }

static ahoy_server server;

static ahoy_work work_on(const char *queue, const ahoy_work_options *options, desk *desk) {
    ahoy_work work;
    CHECK_OK(ahoy_queue_work(server, queue, options, take, desk, free_desk, &work));
    return work;
}

static void stop(ahoy_work work, desk *desk) {
    CHECK_OK(ahoy_work_stop(work));
    CHECK_STATUS(ahoy_work_stop(work), AHOY_ERR_STALE);
    latch_wait(&desk->freed, 1);
    CHECK_EQ(latch_count(&desk->freed), 1);
}

static void push(const char *queue, const char *text) {
    CHECK_OK(ahoy_queue_push_wait(server, queue, text, strlen(text), NULL));
}

static void expect_counts(const char *queue, uint64_t waiting, uint64_t in_hand, uint64_t dead) {
    uint64_t counts[3];
    CHECK_OK(ahoy_queue_counts_wait(server, queue, &counts[0], &counts[1], &counts[2]));
    CHECK_EQ(counts[0], waiting);
    CHECK_EQ(counts[1], in_hand);
    CHECK_EQ(counts[2], dead);
}

static void done_once(void) {
    desk desk = DESK_INIT;
    expect_counts("done", 0, 0, 0);
    push("done", "early");
    expect_counts("done", 1, 0, 0);
    ahoy_work work = work_on("done", NULL, &desk);
    latch_wait(&desk.jobs, 1);
    CHECK_TEXT(desk.text[0], "early");
    CHECK_EQ(desk.tries[0], 1);
    expect_counts("done", 0, 1, 0);
    CHECK_OK(ahoy_job_done(desk.job[0]));
    CHECK_STATUS(ahoy_job_done(desk.job[0]), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_job_retry(desk.job[0], 0), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_job_drop(desk.job[0], NULL), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_job_progress(desk.job[0]), AHOY_ERR_STALE);
    expect_counts("done", 0, 0, 0);
    push("done", "");
    latch_wait(&desk.jobs, 2);
    CHECK_TEXT(desk.text[1], "");
    CHECK_OK(ahoy_job_done(desk.job[1]));
    stop(work, &desk);
}

static void tried_again(void) {
    desk desk = DESK_INIT;
    ahoy_work work = work_on("again", NULL, &desk);
    push("again", "job");
    latch_wait(&desk.jobs, 1);
    long before = now_ms();
    CHECK_OK(ahoy_job_retry(desk.job[0], 0));
    latch_wait(&desk.jobs, 2);
    CHECK_EQ(desk.tries[1], 2);
    CHECK_STATUS(ahoy_job_done(desk.job[0]), AHOY_ERR_STALE);
    before = now_ms();
    CHECK_OK(ahoy_job_retry(desk.job[1], 80));
    expect_counts("again", 0, 1, 0);
    latch_wait(&desk.jobs, 3);
    CHECK(desk.at_ms[2] - before >= 80);
    CHECK_EQ(desk.tries[2], 3);
    CHECK_OK(ahoy_job_done(desk.job[2]));
    expect_counts("again", 0, 0, 0);
    stop(work, &desk);
}

static void dead_at_last(void) {
    desk desk = DESK_INIT, dead = DESK_INIT;
    ahoy_work work = work_on("bad", WORK(.tries_max = 2), &desk);
    push("bad", "never");
    for (long at = 0; at < 2; at++) {
        latch_wait(&desk.jobs, at + 1);
        CHECK_OK(ahoy_job_retry(desk.job[at], 0));
    }
    expect_counts("bad", 0, 0, 1);
    push("bad", "refused");
    latch_wait(&desk.jobs, 3);
    CHECK_OK(ahoy_job_drop(desk.job[2], "it is no use"));
    expect_counts("bad", 0, 0, 2);
    CHECK_EQ(latch_count(&desk.jobs), 3);
    stop(work, &desk);

    ahoy_work again = work_on("bad-dead", WORK(.dead_queue = "worse", .in_hand_max = 2), &dead);
    latch_wait(&dead.jobs, 2);
    int later = !strcmp(dead.text[0], "refused"); /* they may have come on two workers */
    CHECK_TEXT(dead.text[later], "never");
    CHECK_TEXT(dead.text[!later], "refused");
    CHECK_OK(ahoy_job_drop(dead.job[0], NULL));
    expect_counts("bad-dead", 0, 1, 1);
    CHECK_OK(ahoy_job_done(dead.job[1]));
    stop(again, &dead);
    expect_counts("worse", 1, 0, 0);
}

/* Nobody says anything: it comes again, and whoever had it first may still say that it is done. */
static void time_is_over(void) {
    desk desk = DESK_INIT;
    ahoy_work work = work_on("slow", WORK(.ack_ms = 60, .in_hand_max = 8, .tries_max = 100), &desk);
    long before = now_ms();
    push("slow", "job");
    latch_wait(&desk.jobs, 2);
    CHECK(desk.at_ms[1] - before >= 60);
    CHECK_EQ(desk.tries[1], 2);
    CHECK_OK(ahoy_job_done(desk.job[0]));
    expect_counts("slow", 0, 0, 0);
    CHECK_OK(ahoy_job_done(desk.job[1]));
    stop(work, &desk);
}

/* A job that nobody finishes is dead as well: a crash is a try. */
static void silence_is_deadly(void) {
    desk desk = DESK_INIT;
    ahoy_work work = work_on("silent", WORK(.ack_ms = 20, .in_hand_max = 8, .tries_max = 3), &desk);
    push("silent", "job");
    uint64_t dead = 0;
    WAIT_UNTIL(!ahoy_queue_counts_wait(server, "silent", NULL, NULL, &dead) && dead == 1);
    CHECK_EQ(latch_count(&desk.jobs), 3);
    expect_counts("silent", 0, 0, 1);
    for (int at = 0; at < 3; at++) CHECK_OK(ahoy_job_done(desk.job[at]));
    stop(work, &desk);
}

static void progress(void) {
    desk desk = DESK_INIT;
    uint32_t ack_ms = is_slow() ? 3000 : 300;
    ahoy_work work = work_on("long", WORK(.ack_ms = ack_ms, .in_hand_max = 8), &desk);
    push("long", "job");
    latch_wait(&desk.jobs, 1);
    long until = now_ms() + 3 * ack_ms;
    while (now_ms() < until) {
        CHECK_OK(ahoy_job_progress(desk.job[0]));
        wait_moment();
    }
    CHECK_EQ(latch_count(&desk.jobs), 1);
    CHECK_OK(ahoy_job_done(desk.job[0]));
    stop(work, &desk);
}

static void same_id(void) {
    for (int i = 0; i < 3; i++) CHECK_OK(ahoy_queue_push_wait(server, "ids", "x", 1, "one"));
    CHECK_OK(ahoy_queue_push_wait(server, "ids", "x", 1, "two"));
    CHECK_OK(ahoy_queue_push_wait(server, "others", "x", 1, "one"));
    expect_counts("ids", 2, 0, 0);
    expect_counts("others", 1, 0, 0);
}

int main(void) {
    holdings before = holdings_now();
    static const int32_t workers[] = { 1, 4 };
    for (int i = 0; i < 2; i++) {
        server = start(OPTIONS(.workers = workers[i]));
        done_once();
        tried_again();
        dead_at_last();
        time_is_over();
        silence_is_deadly();
        progress();
        same_id();
        ahoy_server_free(server);
    }
    CHECK_HOLDINGS(before);
    return 0;
}
