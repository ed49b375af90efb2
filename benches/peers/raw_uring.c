/*
 * raw_uring: what a careful C programmer writes by hand on io_uring. One ring of one thread, whose work is done when it
 * asks for it (IORING_SETUP_DEFER_TASKRUN); one system call a turn. One order accepts all connections; one order for each
 * connection receives what comes, into buffers that all share and that the kernel uses up piece by piece. What a turn owes
 * a connection goes out in one order, which takes what the socket has room for, and says nothing if that was all. What
 * there was no room for is copied, and waits; where that is much, the connection is not read from until it is out.
 */
#define _GNU_SOURCE
#include <liburing.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "peer.h"

#define ORDERS 4096
#define COMPLETIONS 32768 /* more than there are connections */
#define BUFFERS 16 /* a power of two: few, so that they stay in the cache */
#define BUFFER_GROUP 0
#define ARENA_BYTES ((size_t)BUFFERS * PEER_READ_BYTES)
#define PARTS_MAX 16
#define REST_BYTES_HIGH (4 * PEER_READ_BYTES)

/* Of Linux 6.12, younger than Debian's headers. */
#define PBUF_RING_INC 2
#define CQE_F_BUF_MORE (1U << 4)

enum what { ACCEPT, RECEIVE, SEND, SEND_REST, NOTHING };

struct bytes {
    char *start;
    size_t len, room;
};

/*
 * By descriptor. Its orders to receive and to send the rest keep it open until they have completed. What most turns need of it
 * comes first, and is a line of the cache.
 */
struct conn {
    int orders, is_receiving, is_over, is_closing, part_count, sent_count;
    struct bytes rest; /* what the socket did not take */
    struct iovec parts[PARTS_MAX]; /* what this turn owes it: in the buffers, or in the arena */
    struct msghdr message;
    struct bytes more; /* what came after the kernel was given the rest */
    size_t rest_sent;
    struct bytes partial; /* the beginning of a message */
};

static struct io_uring ring;
static struct io_uring_buf_ring *buffer_ring;
static char *buffers, *arena;
static size_t buffer_used[BUFFERS], arena_used;
static uint16_t used_up[2 * BUFFERS]; /* buffers that the kernel is done with */
static int used_up_count;
static struct conn *conns;
static int *owed, *arming, *closing, owed_count, arming_count, closing_count; /* descriptors, at the end of a turn */
static void (*serve)(int fd, char *bytes, size_t len);
static int is_greeting;

static void check(int result, const char *what)
{
    if (result < 0)
        peer_die(what, strerror(-result));
}

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (!memory)
        peer_die("calloc", strerror(errno));
    return memory;
}

static void append(struct bytes *to, const char *bytes, size_t len)
{
    if (to->room - to->len < len) {
        to->room = 2 * to->len + len;
        to->start = realloc(to->start, to->room);
        if (!to->start)
            peer_die("realloc", strerror(errno));
    }
    memcpy(to->start + to->len, bytes, len);
    to->len += len;
}

static void forget(struct bytes *bytes)
{
    free(bytes->start);
    *bytes = (struct bytes){ NULL, 0, 0 };
}

static uint64_t name(enum what what, int fd)
{
    return (uint64_t)what << 32 | (uint32_t)fd;
}

static struct io_uring_sqe *next_order(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (!sqe) {
        check(io_uring_submit(&ring), "io_uring_submit");
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

static void order_accept(int listener)
{
    struct io_uring_sqe *sqe = next_order();
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, name(ACCEPT, listener));
}

/* Who is greeted is received from once. */
static void order_receive(int fd)
{
    struct io_uring_sqe *sqe = next_order();
    if (is_greeting)
        io_uring_prep_recv(sqe, fd, NULL, 0, 0);
    else
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data64(sqe, name(RECEIVE, fd));
    conns[fd].is_receiving = 1;
    conns[fd].orders++;
}

/* MSG_WAITALL: what the socket does not take whole counts as a failure, and only failures are told. */
static void order_parts(int fd)
{
    struct conn *conn = &conns[fd];
    struct io_uring_sqe *sqe = next_order();
    int flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;
    if (conn->part_count == 1) {
        io_uring_prep_send(sqe, fd, conn->parts[0].iov_base, conn->parts[0].iov_len, flags);
    } else {
        conn->message.msg_iov = conn->parts;
        conn->message.msg_iovlen = (size_t)conn->part_count;
        io_uring_prep_sendmsg(sqe, fd, &conn->message, (unsigned)flags);
    }
    conn->sent_count = conn->part_count;
    conn->part_count = 0;
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, name(conn->is_over ? NOTHING : SEND, fd));
}

static void order_rest(int fd)
{
    struct conn *conn = &conns[fd];
    struct io_uring_sqe *sqe = next_order();
    io_uring_prep_send(sqe, fd, conn->rest.start + conn->rest_sent, conn->rest.len - conn->rest_sent, MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, name(SEND_REST, fd));
    conn->orders++;
}

static void order_nothing(struct io_uring_sqe *sqe)
{
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, name(NOTHING, 0));
}

static void hang_up(int fd)
{
    conns[fd].is_over = 1;
    if (conns[fd].orders > 0)
        shutdown(fd, SHUT_RDWR); /* ends them */
}

/* Puts a copy behind what the connection is owed already, and waits for room. */
static void wait_with(int fd, const char *bytes, size_t len)
{
    struct conn *conn = &conns[fd];
    int is_first = conn->rest.len == 0;
    for (int i = 0; i < conn->part_count; i++)
        append(&conn->rest, conn->parts[i].iov_base, conn->parts[i].iov_len);
    conn->part_count = 0;
    append(is_first ? &conn->rest : &conn->more, bytes, len);
    if (is_first)
        order_rest(fd);
    if (conn->is_receiving && conn->rest.len + conn->more.len >= REST_BYTES_HIGH) {
        struct io_uring_sqe *sqe = next_order();
        io_uring_prep_cancel64(sqe, name(RECEIVE, fd), 0);
        order_nothing(sqe);
    }
}

/* The bytes stay where they are until the next turn. */
static void owe(int fd, char *bytes, size_t len)
{
    struct conn *conn = &conns[fd];
    struct iovec *last = &conn->parts[conn->part_count - 1];
    if (conn->rest.len > 0) {
        wait_with(fd, bytes, len);
    } else if (conn->part_count > 0 && (char *)last->iov_base + last->iov_len == bytes) {
        last->iov_len += len;
    } else if (conn->part_count < PARTS_MAX) {
        if (conn->part_count == 0)
            owed[owed_count++] = fd;
        conn->parts[conn->part_count++] = (struct iovec){ bytes, len };
    } else {
        wait_with(fd, bytes, len);
    }
}

static void greet(int fd, char *bytes, size_t len)
{
    (void)bytes, (void)len;
    owe(fd, (char *)PEER_GREETING, PEER_GREETING_BYTES);
    hang_up(fd);
}

static void echo_framed(int fd, char *bytes, size_t len)
{
    struct conn *conn = &conns[fd];
    struct bytes joined = conn->partial;
    if (joined.len > 0) {
        append(&joined, bytes, len);
        bytes = joined.start;
        len = joined.len;
        conn->partial = (struct bytes){ NULL, 0, 0 };
    }
    int is_lent = ARENA_BYTES - arena_used >= len;
    char *answers = is_lent ? arena + arena_used : allocate(1, len);
    ssize_t done = peer_answer_messages(answers, bytes, len);
    if (done < 0)
        hang_up(fd);
    else if ((size_t)done < len)
        append(&conn->partial, bytes + done, len - (size_t)done);
    if (done > 0 && is_lent) {
        owe(fd, answers, (size_t)done);
        arena_used += (size_t)done;
    } else if (done > 0) {
        wait_with(fd, answers, (size_t)done);
    }
    if (!is_lent)
        free(answers);
    forget(&joined);
}

static void accepted(int listener, int result, unsigned flags)
{
    if (!(flags & IORING_CQE_F_MORE))
        order_accept(listener);
    if (result >= 0) {
        memset(&conns[result], 0, sizeof *conns);
        arming[arming_count++] = result;
    } else if (result != -ECONNABORTED && result != -EINTR) {
        check(result, "accept");
    }
}

static void received(int fd, int result, unsigned flags)
{
    struct conn *conn = &conns[fd];
    if (!(flags & IORING_CQE_F_MORE)) {
        conn->is_receiving = 0;
        conn->orders--;
    }
    if (flags & IORING_CQE_F_BUFFER) {
        unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;
        char *bytes = buffers + (size_t)buffer * PEER_READ_BYTES + buffer_used[buffer];
        buffer_used[buffer] += result > 0 ? (size_t)result : 0;
        if (!(flags & CQE_F_BUF_MORE))
            used_up[used_up_count++] = (uint16_t)buffer;
        if (result > 0 && !conn->is_over)
            serve(fd, bytes, (size_t)result);
    }
    if (result == 0 || (result < 0 && result != -ENOBUFS && result != -ECANCELED && result != -EINTR))
        hang_up(fd);
    else if (!conn->is_receiving && !conn->is_over && conn->rest.len == 0)
        arming[arming_count++] = fd;
}

/* Comes before what the connection is owed next: its parts are those that were sent. */
static void sent_in_part(int fd, int result)
{
    struct conn *conn = &conns[fd];
    if (result < 0 && result != -EAGAIN && result != -EINTR) {
        hang_up(fd);
        return;
    }
    struct bytes left = { NULL, 0, 0 };
    size_t sent = result > 0 ? (size_t)result : 0;
    for (int i = 0; i < conn->sent_count; i++) {
        size_t len = conn->parts[i].iov_len, skip = sent < len ? sent : len;
        append(&left, (char *)conn->parts[i].iov_base + skip, len - skip);
        sent -= skip;
    }
    wait_with(fd, left.start, left.len);
    forget(&left);
}

static void sent_of_rest(int fd, int result)
{
    struct conn *conn = &conns[fd];
    conn->orders--;
    if (result < 0 && result != -EINTR) {
        hang_up(fd);
        return;
    }
    conn->rest_sent += result > 0 ? (size_t)result : 0;
    if (conn->rest_sent == conn->rest.len) {
        forget(&conn->rest);
        conn->rest = conn->more;
        conn->more = (struct bytes){ NULL, 0, 0 };
        conn->rest_sent = 0;
    }
    if (conn->rest.len > 0)
        order_rest(fd);
    else if (!conn->is_receiving)
        arming[arming_count++] = fd;
}

static void give_back(int count)
{
    for (int i = 0; i < count; i++) {
        buffer_used[used_up[i]] = 0;
        io_uring_buf_ring_add(buffer_ring, buffers + (size_t)used_up[i] * PEER_READ_BYTES, PEER_READ_BYTES, used_up[i],
                              io_uring_buf_ring_mask(BUFFERS), i);
    }
    io_uring_buf_ring_advance(buffer_ring, count);
    used_up_count -= count;
    memmove(used_up, used_up + count, (size_t)used_up_count * sizeof *used_up);
}

static void handle_completions(void)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&ring, head, cqe)
    {
        int fd = (int)(uint32_t)cqe->user_data;
        count++;
        switch ((enum what)(cqe->user_data >> 32)) {
        case ACCEPT: accepted(fd, cqe->res, cqe->flags); continue;
        case RECEIVE: received(fd, cqe->res, cqe->flags); break;
        case SEND: sent_in_part(fd, cqe->res); break;
        case SEND_REST: sent_of_rest(fd, cqe->res); break;
        case NOTHING: continue;
        }
        if (conns[fd].is_over && conns[fd].orders == 0 && !conns[fd].is_closing) {
            conns[fd].is_closing = 1;
            closing[closing_count++] = fd;
        }
    }
    io_uring_cq_advance(&ring, count);
}

/* Sends come first: what they could not send is told before anything is received with the orders behind them. */
static void give_orders(void)
{
    for (int i = 0; i < owed_count; i++)
        if (conns[owed[i]].part_count > 0)
            order_parts(owed[i]);
    for (int i = 0; i < arming_count; i++)
        if (!conns[arming[i]].is_over)
            order_receive(arming[i]);
    for (int i = 0; i < closing_count; i++) {
        struct conn *conn = &conns[closing[i]];
        forget(&conn->rest), forget(&conn->more), forget(&conn->partial);
        struct io_uring_sqe *sqe = next_order();
        io_uring_prep_close(sqe, closing[i]);
        order_nothing(sqe);
    }
    owed_count = arming_count = closing_count = 0;
}

static void set_up(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files))
        peer_die("getrlimit", strerror(errno));
    conns = allocate(files.rlim_cur, sizeof *conns);
    owed = allocate(files.rlim_cur, sizeof *owed);
    arming = allocate(files.rlim_cur, sizeof *arming);
    closing = allocate(files.rlim_cur, sizeof *closing);
    arena = allocate(1, ARENA_BYTES);
    buffers = allocate(BUFFERS, PEER_READ_BYTES);

    struct io_uring_params params = {
        .cq_entries = COMPLETIONS,
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
    };
    check(io_uring_queue_init_params(ORDERS, &ring, &params), "io_uring_queue_init_params");
    check(io_uring_register_ring_fd(&ring), "io_uring_register_ring_fd");
    if (posix_memalign((void **)&buffer_ring, 4096, BUFFERS * sizeof(struct io_uring_buf)))
        peer_die("posix_memalign", "no memory");
    struct io_uring_buf_reg registered = {
        .ring_addr = (uintptr_t)buffer_ring, .ring_entries = BUFFERS, .bgid = BUFFER_GROUP, .pad = PBUF_RING_INC
    };
    if (io_uring_register_buf_ring(&ring, &registered, 0)) {
        registered.pad = 0; /* an older kernel: each receive uses up a buffer */
        check(io_uring_register_buf_ring(&ring, &registered, 0), "io_uring_register_buf_ring");
    }
    io_uring_buf_ring_init(buffer_ring);
    for (used_up_count = 0; used_up_count < BUFFERS; used_up_count++)
        used_up[used_up_count] = (uint16_t)used_up_count;
    give_back(BUFFERS);
}

int main(int argc, char **argv)
{
    struct peer peer = peer_arguments(argc, argv, "echo greet framed ", "liburing " LIBURING_VERSION);
    is_greeting = !strcmp(peer.mode, "greet");
    serve = is_greeting ? greet : !strcmp(peer.mode, "framed") ? echo_framed : owe;
    set_up();
    order_accept(peer_listen(peer.port));
    for (;;) {
        int result = io_uring_submit_and_wait(&ring, 1);
        if (result != -EINTR)
            check(result, "io_uring_submit_and_wait");
        int of_last_turn = used_up_count;
        arena_used = 0;
        handle_completions();
        give_back(of_last_turn);
        give_orders();
    }
}
