using System;
using System.Threading;
using System.Threading.Tasks;
using VMatrix.Moves;

namespace VMatrix;

/// <summary>
/// One question, put again and again to one who may be ill: a host, the nest, a balancer. It has a deadline. Nobody waits a second time for one
/// that let it pass, or took long to fail: it is asked in the background, and who asks meanwhile is told at once that it does not answer.
/// </summary>
/// <param name="id">Id of the error that tells of its silence.</param>
/// <param name="who">Its name, as the begin of a sentence.</param>
/// <param name="patience">The deadline.</param>
/// <param name="clock">The clock.</param>
internal sealed class PatientRead<T>(string id, string who, TimeSpan patience, TimeProvider clock)
{
    /// <summary>The share of its deadline in which who fails costs nobody much time, and may be asked again as if nothing had been.</summary>
    private const int QuickShare = 6;

    private static readonly TimeSpan s_longest = TimeSpan.FromHours(1);

    private readonly object _gate = new();
    private DateTimeOffset? _silentSince;
    private VMatrixException? _told;
    private Task _stuck = Task.CompletedTask;
    private TimeSpan _longer;
    private long _putAt;
    private bool _probing;

    /// <param name="ask">Puts the question; it is given up at the deadline, also where it takes no notice of that.</param>
    /// <param name="cancellation">Ends the waiting and the question.</param>
    /// <exception cref="VMatrixException">Kind Unreachable: it does not answer. Any other: what it told.</exception>
    public async Task<T> AskAsync(Func<CancellationToken, Task<T>> ask, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var probe = false;
        lock (_gate)
        {
            // A question that does not end is left to itself, and put anew ever more rarely: each may hold a thread for ever.
            if (_silentSince is not null && !_probing && (_stuck.IsCompleted || clock.GetElapsedTime(_putAt) >= _longer))
                probe = _probing = true;
        }

        if (probe)
            _ = ProbeAsync(ask);
        lock (_gate)
        {
            // What answers at once has been heard already.
            if (_silentSince is { } since)
                throw _told is null ? Silent(since) : new VMatrixException(_told.Id, _told.Kind, _told.Message, _told) { IsTransient = _told.IsTransient };
        }

        return await PutAsync(ask, cancellation);
    }

    private async Task<T> PutAsync(Func<CancellationToken, Task<T>> ask, CancellationToken cancellation)
    {
        var (begun, stamp) = (clock.GetUtcNow(), clock.GetTimestamp());
        using var deadline = clock.Deadline(patience);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellation, deadline.Token);
        Task<T>? work = null;
        try
        {
            work = ask(both.Token);
            await work.UntilAsync(both.Token);
            var answer = await work;
            lock (_gate)
                (_silentSince, _told, _longer) = (null, null, default);
            return answer;
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested && deadline.IsCancellationRequested)
        {
            lock (_gate)
            {
                _silentSince ??= begun;
                if (work is { IsCompleted: false })
                {
                    _stuck = work;
                    _longer = _longer == TimeSpan.Zero ? patience : _longer < s_longest ? _longer + _longer : s_longest;
                    _putAt = clock.GetTimestamp();
                }

                _told = null;
                throw Silent(_silentSince.Value);
            }
        }
        catch (VMatrixException e)
        {
            var slow = clock.GetElapsedTime(stamp) >= TimeSpan.FromTicks(patience.Ticks / QuickShare);
            lock (_gate)
            {
                _silentSince = slow ? _silentSince ?? begun : null;
                _told = slow ? e : null;
            }

            throw;
        }
    }

    private async Task ProbeAsync(Func<CancellationToken, Task<T>> ask)
    {
        try
        {
            _ = await PutAsync(ask, CancellationToken.None);
        }
        catch (Exception e) when (e is not VMatrixException)
        {
            // Who asks next is told of it.
            lock (_gate)
                (_silentSince, _told) = (null, null);
        }
        catch (VMatrixException)
        {
            // It is kept, and told to who asks next.
        }
        finally
        {
            lock (_gate)
                _probing = false;
        }
    }

    private VMatrixException Silent(DateTimeOffset since) => new(id, VMatrixErrorKind.Unreachable,
        $"{who} has not answered since {since:u}, for longer than limits.readTimeout allows. It is asked again in the background; look at its machine and its network.") { IsTransient = true };
}
