/*
 * Ends: a server that stops with jobs in hand waits for them, and gives them up when its time is over; a handler stops its own
 * work, or frees the server; a callback pushes; a wait inside of one is refused. Each on_free and on_done runs once.
 */
#include "support.h"

#define WORK(...) (&(ahoy_work_options){ .size = sizeof(ahoy_work_options), __VA_ARGS__ })

typedef struct scene {
    ahoy_server server;
    ahoy_work work;
    ahoy_job job;
    latch taken, done, freed, over;
    _Atomic int32_t status;
} scene;

#define SCENE_INIT { .taken = LATCH_INIT, .done = LATCH_INIT, .freed = LATCH_INIT, .over = LATCH_INIT }

static void on_done(ahoy_server server, ahoy_status status, void *user) {
    scene *scene = user;
    CHECK_EQ(server.id, scene->server.id);
    ahoy_status waited = ahoy_queue_push_wait(server, "q", "x", 1, NULL);
    CHECK(waited == AHOY_ERR_DEADLOCK || waited == AHOY_ERR_STALE); /* it may be freed by now */
    scene->status = status;
    latch_add(&scene->done, 1);
}

static void on_counts(ahoy_server server, ahoy_status status, uint64_t waiting, uint64_t in_hand, uint64_t dead,
                      void *user) {
    scene *scene = user;
    CHECK_EQ(server.id, scene->server.id);
    CHECK_OK(status);
    CHECK_EQ(waiting + in_hand + dead, 1);
    latch_add(&scene->done, 1);
}

static void free_scene(void *user) {
    scene *scene = user;
    CHECK_EQ(latch_count(&scene->over), 0);
    latch_add(&scene->freed, 1);
}

static void end_scene(void *user) { latch_add(&((scene *)user)->over, 1); }

static void keep(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    scene *scene = user;
    (void)data, (void)len, (void)tries;
    scene->job = job;
    latch_add(&scene->taken, 1);
}

static void begin(scene *scene, ahoy_job_fn handler, int32_t workers) {
    scene->server = start(OPTIONS(.workers = workers, .user = scene, .on_free = end_scene));
    CHECK_OK(ahoy_queue_work(scene->server, "q", WORK(.in_hand_max = 1), handler, scene, free_scene, &scene->work));
    CHECK_OK(ahoy_queue_push(scene->server, "q", "job", 3, NULL, on_done, scene));
}

static void finish(scene *scene, long done) {
    CHECK_OK(ahoy_server_wait(scene->server));
    ahoy_server_free(scene->server);
    latch_wait(&scene->freed, 1);
    latch_wait(&scene->over, 1);
    CHECK_EQ(latch_count(&scene->freed), 1);
    CHECK_EQ(latch_count(&scene->done), done);
}

static long cut_jobs(ahoy_server server) {
    static char text[32768];
    CHECK_OK(ahoy_metrics_text(server, text, sizeof text, NULL));
    const char *found = strstr(text, "ahoy_jobs_total{event=\"cut\"} ");
    CHECK(found != NULL);
    return atol(strchr(found, ' '));
}

/* It ends in time: nothing is cut. */
static void drained(int32_t workers) {
    scene scene = SCENE_INIT;
    begin(&scene, keep, workers);
    latch_wait(&scene.taken, 1);
    latch_wait(&scene.done, 1);
    ahoy_server_stop(scene.server, 30000);
    latch_wait(&scene.freed, 1);
    CHECK_EQ(latch_count(&scene.over), 0);
    CHECK_STATUS(ahoy_queue_work(scene.server, "q", NULL, keep, &scene, free_scene, NULL), AHOY_OK);
    latch_wait(&scene.freed, 2);
    CHECK_OK(ahoy_job_progress(scene.job));
    /* What a job leads to can still be pushed. */
    CHECK_OK(ahoy_queue_push_wait(scene.server, "next", "x", 1, NULL));
    CHECK_OK(ahoy_job_done(scene.job));
    CHECK_OK(ahoy_server_wait(scene.server));
    CHECK_EQ(cut_jobs(scene.server), 0);
    latch_add(&scene.freed, -1);
    finish(&scene, 1);
}

static void cut_off(int32_t workers) {
    scene scene = SCENE_INIT;
    begin(&scene, keep, workers);
    latch_wait(&scene.taken, 1);
    latch_wait(&scene.done, 1);
    ahoy_server_stop(scene.server, 50);
    CHECK_OK(ahoy_server_wait(scene.server));
    CHECK_EQ(cut_jobs(scene.server), 1);
    CHECK_STATUS(ahoy_job_done(scene.job), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_work_stop(scene.work), AHOY_ERR_STALE);
    finish(&scene, 1);
}

static void stops_its_work(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    scene *scene = user;
    CHECK_OK(ahoy_work_stop(scene->work));
    CHECK_STATUS(ahoy_work_stop(scene->work), AHOY_ERR_STALE);
    CHECK_EQ(latch_count(&scene->freed), 0);
    keep(job, data, len, tries, user);
}

static void work_stopped(void) {
    scene scene = SCENE_INIT;
    begin(&scene, stops_its_work, 1);
    latch_wait(&scene.freed, 1);
    /* The job outlives the work. */
    CHECK_OK(ahoy_queue_counts(scene.server, "q", on_counts, &scene));
    latch_wait(&scene.done, 2);
    CHECK_OK(ahoy_job_retry(scene.job, 0));
    uint64_t waiting = 0;
    WAIT_UNTIL(!ahoy_queue_counts_wait(scene.server, "q", &waiting, NULL, NULL) && waiting == 1);
    ahoy_server_stop(scene.server, 0);
    finish(&scene, 2);
}

static void frees_the_server(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    scene *scene = user;
    ahoy_server_free(scene->server);
    CHECK_STATUS(ahoy_queue_push(scene->server, "q", "x", 1, NULL, NULL, NULL), AHOY_ERR_STALE);
    keep(job, data, len, tries, user);
}

static void server_freed(void) {
    scene scene = SCENE_INIT;
    begin(&scene, frees_the_server, 2);
    latch_wait(&scene.freed, 1);
    latch_wait(&scene.over, 1);
    latch_wait(&scene.done, 1);
    CHECK_STATUS(ahoy_job_done(scene.job), AHOY_ERR_STALE);
}

/* A handler pushes the next job, waits for nothing, and ends its own. */
static void counts_down(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user) {
    scene *scene = user;
    char left = *(const char *)data;
    CHECK(len == 1 && tries == 1);
    CHECK_STATUS(ahoy_queue_push_wait(scene->server, "chain", data, 1, NULL), AHOY_ERR_DEADLOCK);
    CHECK_STATUS(ahoy_queue_counts_wait(scene->server, "chain", NULL, NULL, NULL), AHOY_ERR_DEADLOCK);
    left--;
    if (left > 0) CHECK_OK(ahoy_queue_push(scene->server, "chain", &left, 1, NULL, on_done, scene));
    CHECK_OK(ahoy_job_done(job));
    latch_add(&scene->taken, 1);
}

static void chained(void) {
    scene scene = SCENE_INIT;
    scene.server = start(OPTIONS(.workers = 2, .user = &scene, .on_free = end_scene));
    CHECK_OK(ahoy_queue_work(scene.server, "chain", NULL, counts_down, &scene, free_scene, &scene.work));
    CHECK_OK(ahoy_queue_push_wait(scene.server, "chain", "\x64", 1, NULL));
    latch_wait(&scene.taken, 100);
    latch_wait(&scene.done, 99);
    CHECK_OK(scene.status);
    ahoy_server_stop(scene.server, 1000);
    finish(&scene, 99);
}

int main(void) {
    holdings before = holdings_now();
    drained(1), drained(3);
    cut_off(1), cut_off(3);
    work_stopped();
    server_freed();
    chained();
    CHECK_HOLDINGS(before);
    return 0;
}
