/*
 * offload: work that takes long, kept away from the workers. Threads of the program's own look for the smallest
 * factor of each number; the workers go on with everybody else meanwhile.
 *
 *     cc -pthread -o offload offload.c $(pkg-config --cflags --libs ahoy)
 *     ./offload                      listens on tcp://127.0.0.1:9000; another URL may follow
 *
 * From another terminal:  printf '999997874844049\n15\n' | nc -N 127.0.0.1 9000
 */
#define _POSIX_C_SOURCE 200809L
#include <ahoy.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { threads = 4, jobs_max = 1024 };

struct job { ahoy_conn conn; uint64_t number; };

static struct job jobs[jobs_max]; /* a ring */
static size_t first, count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t added = PTHREAD_COND_INITIALIZER;

/* A client is paused while its number is looked at: so it gets its answers in order, and cannot take all the room. */
static void on_message(ahoy_conn conn, const void *line, size_t len, void *user)
{
    char digits[24] = "";
    int is_taken;

    (void)user;
    memcpy(digits, line, len < sizeof digits ? len : sizeof digits - 1);
    pthread_mutex_lock(&lock);
    is_taken = count < jobs_max;
    if (is_taken) {
        ahoy_conn_pause(conn); /* before the thread can resume it */
        jobs[(first + count++) % jobs_max] = (struct job){ conn, strtoull(digits, NULL, 10) };
        pthread_cond_signal(&added);
    }
    pthread_mutex_unlock(&lock);
    if (!is_taken) ahoy_send(conn, "busy", strlen("busy"));
}

static uint64_t smallest_factor(uint64_t number)
{
    if (number < 2 || number % 2 == 0) return number < 2 ? number : 2;
    for (uint64_t factor = 3; factor <= number / factor; factor += 2)
        if (number % factor == 0) return factor;
    return number;
}

/* Handles may be used by any thread. If the client is gone by now, its handle is stale: the calls do nothing. */
static void *work(void *unused)
{
    for (;;) {
        struct job job;
        char answer[24];

        pthread_mutex_lock(&lock);
        while (count == 0) pthread_cond_wait(&added, &lock);
        job = jobs[first];
        first = (first + 1) % jobs_max;
        count--;
        pthread_mutex_unlock(&lock);

        snprintf(answer, sizeof answer, "%" PRIu64, smallest_factor(job.number));
        if (ahoy_send(job.conn, answer, strlen(answer)) != AHOY_OK) ahoy_conn_close(job.conn); /* it reads nothing */
        while (ahoy_conn_resume(job.conn) == AHOY_ERR_AGAIN) sched_yield(); /* its worker has mail enough */
    }
    return unused;
}

int main(int argc, char **argv)
{
    ahoy_server_options options = { .size = sizeof options, .framing = AHOY_FRAMING_LINES,
        .listen = argc > 1 ? argv[1] : "tcp://127.0.0.1:9000", .on_message = on_message, .message_bytes_max = 1024 };
    ahoy_server server;
    char address[128];
    pthread_t thread;

    if (ahoy_server_start(&options, &server) ||
        ahoy_server_address(server, 0, address, sizeof address)) return ahoy_perror("offload"), 1;
    for (int i = 0; i < threads; i++)
        if (pthread_create(&thread, NULL, work, NULL) != 0) return fprintf(stderr, "offload: no thread\n"), 1;
    fprintf(stderr, "offload: listening on %s\n", address);
    return ahoy_server_wait(server);
}
