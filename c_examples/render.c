/*
 * render: a picture that many machines compute. A client cuts it into stripes and pushes each as a job; nodes take the jobs,
 * one on each core, and push what they have computed as jobs for the client, which puts the picture together. A stripe is
 * done when its result is kept: if a node dies half-way, another one does what it had in hand.
 *
 *     cc -pthread -o render render.c $(pkg-config --cflags --libs ahoy)
 *     ./render alone picture.png                        all of it in this process, on all cores
 *     ./render node nats://127.0.0.1:4222/art           on as many machines as you have
 *     ./render client nats://127.0.0.1:4222/art picture.png      one at a time
 *
 * After the picture's name may follow how many times a point is iterated: more takes longer.
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { width = 640, height = 480, rows = 8, stripes = height / rows };

struct stripe { uint64_t run; uint32_t number, iterations; };             /* a job, in the byte order of these machines */
struct result { struct stripe stripe; unsigned char gray[rows * width]; };

static ahoy_server server;
static uint64_t run;
static unsigned char picture[height][width];
static char is_there[stripes];
static int left = stripes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t complete = PTHREAD_COND_INITIALIZER;

/* ---- A node ------------------------------------------------------------------------------------------------ */

static void compute(struct result *result)
{
    for (int at = 0; at < rows * width; at++) {
        double x0 = (at % width) * 3.2 / width - 2.2;
        double y0 = ((int)result->stripe.number * rows + at / width) * 2.4 / height - 1.2;
        double x = 0, y = 0;
        uint32_t n = 0;
        for (; n < result->stripe.iterations && x * x + y * y < 4; n++) {
            double next = x * x - y * y + x0;
            y = 2 * x * y + y0, x = next;
        }
        result->gray[at] = n < result->stripe.iterations ? (unsigned char)(255 - n * 8) : 0;
    }
}

struct owed { ahoy_job job; };

/* The result is kept, or not: only then the job is over. */
static void on_kept(ahoy_server of, ahoy_status status, void *user)
{
    struct owed *owed = user;
    (void)of;
    if (status == AHOY_OK) ahoy_job_done(owed->job);
    else ahoy_job_retry(owed->job, 500);
    free(owed);
}

static void on_stripe(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user)
{
    struct result *result = malloc(sizeof *result);
    struct owed *owed = malloc(sizeof *owed);
    char id[64];

    (void)tries, (void)user;
    if (len != sizeof result->stripe || !result || !owed) {
        if (len != sizeof result->stripe) ahoy_job_drop(job, "it is no stripe");
        else ahoy_job_retry(job, 1000);
        free(result), free(owed);
        return;
    }
    memcpy(&result->stripe, data, len);
    compute(result);
    printf("stripe %u\n", result->stripe.number);
    fflush(stdout);
    owed->job = job;
    /* The same stripe, computed twice, is one result. */
    snprintf(id, sizeof id, "%llx-%u", (unsigned long long)result->stripe.run, result->stripe.number);
    if (ahoy_queue_push(server, "results", result, sizeof *result, id, on_kept, owed)) {
        ahoy_job_retry(job, 500);
        free(owed);
    }
    free(result);
}

/* ---- The client -------------------------------------------------------------------------------------------- */

static void on_result(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user)
{
    static struct result result;

    (void)tries, (void)user;
    pthread_mutex_lock(&lock);
    if (len == sizeof result) {
        memcpy(&result, data, len);
        /* What is of an earlier picture, or comes twice, is of no use. */
        if (result.stripe.run == run && result.stripe.number < stripes && !is_there[result.stripe.number]) {
            memcpy(picture[result.stripe.number * rows], result.gray, sizeof result.gray);
            is_there[result.stripe.number] = 1;
            if (--left == 0) pthread_cond_signal(&complete);
        }
    }
    pthread_mutex_unlock(&lock);
    ahoy_job_done(job);
}

static int push_stripes(uint32_t iterations)
{
    struct stripe stripe = { run, 0, iterations };
    for (; stripe.number < stripes; stripe.number++) {
        char id[64];
        ahoy_status status;
        snprintf(id, sizeof id, "%llx-%u", (unsigned long long)run, stripe.number);
        do { /* with its id it can be pushed again, and is there once */
            status = ahoy_queue_push_wait(server, "stripes", &stripe, sizeof stripe, id);
        } while (status == AHOY_ERR_UNKNOWN_OUTCOME || status == AHOY_ERR_DISCONNECTED || status == AHOY_ERR_AGAIN);
        if (status) return ahoy_perror("push"), 1;
    }
    return 0;
}

/* ---- PNG: gray, not compressed ----------------------------------------------------------------------------- */

static uint32_t crc_of(uint32_t crc, const unsigned char *data, size_t len)
{
    for (crc = ~crc; len--; data++) {
        crc ^= *data;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void put_number(unsigned char *at, uint32_t number)
{
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)(number >> (24 - 8 * i));
}

static void put_chunk(FILE *file, const char *name, const unsigned char *data, size_t len)
{
    unsigned char head[8], tail[4];
    put_number(head, (uint32_t)len), memcpy(head + 4, name, 4);
    put_number(tail, crc_of(crc_of(0, head + 4, 4), data, len));
    fwrite(head, 1, 8, file), fwrite(data, 1, len, file), fwrite(tail, 1, 4, file);
}

static int write_png(FILE *file, const char *path)
{
    static unsigned char data[2 + height * (5 + 1 + width) + 4]; /* each row is a stored block */
    unsigned char header[13] = { 0 }, *at = data;
    uint32_t a = 1, b = 0;

    *at++ = 0x78, *at++ = 0x01;
    for (int y = 0; y < height; y++) {
        unsigned len = 1 + width;
        *at++ = y == height - 1;
        *at++ = len & 255, *at++ = len >> 8, *at++ = ~len & 255, *at++ = ~len >> 8 & 255;
        *at++ = 0, memcpy(at, picture[y], width), at += width;
        for (unsigned char *byte = at - len; byte < at; byte++) a = (a + *byte) % 65521, b = (b + a) % 65521;
    }
    put_number(at, b << 16 | a);
    put_number(header, width), put_number(header + 4, height), header[8] = 8;
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, file);
    put_chunk(file, "IHDR", header, sizeof header);
    put_chunk(file, "IDAT", data, sizeof data);
    put_chunk(file, "IEND", header, 0);
    return fclose(file) ? perror(path), 1 : 0;
}

/* ---- All of it --------------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
    const char *mode = argc > 2 && *argv[2] != '-' ? argv[1] : "";
    int is_node = !strcmp(mode, "node"), is_client = !strcmp(mode, "client"), is_alone = !strcmp(mode, "alone");
    int at = is_client ? 3 : 2; /* where the picture's name is */
    char *end = "";
    long iterations = argc > at + 1 ? strtol(argv[at + 1], &end, 10) : 2000;
    ahoy_cluster_options cluster = { .size = sizeof cluster, .join_ms = 10000 };
    ahoy_server_options options = { .size = sizeof options, .cluster = is_node || is_client ? argv[2] : NULL,
                                    .cluster_options = &cluster };
    ahoy_work_options work = { .size = sizeof work, .ack_ms = 10000, .tries_max = 20 };
    struct timespec now;
    sigset_t signals;
    FILE *file = NULL;
    int got, failed = 0;

    if (!is_node && !is_client && !is_alone) at = argc; /* nothing is where it has to be */
    if (argc <= at || argc > at + (is_node ? 1 : 2) || *end != '\0' || iterations < 1 || iterations > INT32_MAX)
        return fprintf(stderr, "usage: render alone PNG | node URL | client URL PNG  [ITERATIONS]\n"), 2;
    if (!is_node && !(file = fopen(argv[at], "wb"))) return perror(argv[at]), 1;
    sigemptyset(&signals), sigaddset(&signals, SIGINT), sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    if (ahoy_server_start(&options, &server)) return ahoy_perror("render"), 1;
    if (!is_client && ahoy_queue_work(server, "stripes", &work, on_stripe, NULL, NULL, NULL))
        return ahoy_perror("work"), 1;
    if (is_node) {
        fprintf(stderr, "render: works\n"); /* The URL may have a password in it. */
        sigwait(&signals, &got);
    } else {
        clock_gettime(CLOCK_REALTIME, &now);
        run = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        if (ahoy_queue_work(server, "results", &work, on_result, NULL, NULL, NULL)) return ahoy_perror("work"), 1;
        failed = push_stripes((uint32_t)iterations);
        pthread_mutex_lock(&lock);
        while (left > 0 && !failed) pthread_cond_wait(&complete, &lock);
        pthread_mutex_unlock(&lock);
        failed = failed || write_png(file, argv[at]);
    }
    /* What is in hand is finished first: a node that is told to end loses nothing. */
    ahoy_server_stop(server, AHOY_DRAIN_DEFAULT);
    ahoy_server_wait(server);
    ahoy_server_free(server);
    return failed;
}
