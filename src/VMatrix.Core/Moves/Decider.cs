using System;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading;
using VMatrix.Files;

namespace VMatrix.Moves;

/// <summary>The held lock of the one decider.</summary>
public sealed class Decider : IDisposable
{
    private readonly string _folder;
    private readonly string? _nest;
    private readonly FileStream _lock;
    private readonly FileStream? _nestLock;
    private readonly Func<CancellationToken, IDisposable> _lockClaims;
    private Holder _holder;
    private VMatrixException? _stale;

    private Decider(string folder, FileStream held, string? nest, FileStream? nestLock, Func<CancellationToken, IDisposable> lockClaims, Holder holder) =>
        (_folder, _lock, _nest, _nestLock, _lockClaims, _holder) = (folder, held, nest, nestLock, lockClaims, holder);

    /// <summary>The epoch, greater than any before.</summary>
    public long Epoch => _holder.Epoch;

    /// <summary>Takes an epoch above one that a driver has seen: after the state folder was lost or restored from a backup its own memory of epochs is too low.</summary>
    /// <param name="seen">The highest epoch that anybody keeps; an epoch above it already stays.</param>
    /// <exception cref="VMatrixException"><c>StateCorrupt</c> when no epoch is above it.</exception>
    internal void RaiseAbove(long seen)
    {
        if (Epoch > seen)
            return;
        using (_lockClaims(default))
        {
            _holder = _holder with { Epoch = After(seen, _folder) };
            Write();
        }
    }

    /// <summary>Ends the decider: a driver has refused its epoch, and would refuse every call to come.</summary>
    internal void End(VMatrixException refused) => Interlocked.CompareExchange(ref _stale, new VMatrixException("StaleEpoch", VMatrixErrorKind.Busy,
        $"This decider ends and changes nothing more: {refused.Message} Another decider is at work, or the state folder {_folder} was restored from a backup meanwhile; if Get-VMatrixPool shows no other decider, start again: the next epoch is above the highest.", refused), null);

    /// <summary>Throws <c>StaleEpoch</c> when a driver has refused this decider's epoch.</summary>
    internal void ThrowIfEnded()
    {
        if (Volatile.Read(ref _stale) is { } stale)
            throw stale;
    }

    /// <summary>
    /// Throws <c>DeciderLost</c> when the lock is no longer held (the state folder went away, or its files were replaced or deleted and somebody
    /// else may have taken over), and <c>StaleEpoch</c> when a driver has refused the epoch.
    /// </summary>
    public void Check()
    {
        ThrowIfEnded();
        try
        {
            if (!_lock.CanWrite || !StateFiles.IsLocked(LockPath(_folder)) || StateFiles.TryReadJson<Holder>(HolderPath(_folder))?.Nonce != _holder.Nonce)
                throw Lost(_folder, Read(_folder));
        }
        catch (Exception e) when (StateFiles.IsFileError(e) || e is VMatrixException { Id: not "DeciderLost" })
        {
            throw Lost(_folder, null, e);
        }

        if (OfNest() is { } other && other.Nonce != _holder.Nonce)
            throw Lost(_nest!, other.By);
    }

    // A nest that is away for a while is the drivers' matter; one that another decider has taken is ours no more.
    private Holder? OfNest()
    {
        try
        {
            return _nest is null ? null : StateFiles.TryReadJson<Holder>(HolderPath(_nest));
        }
        catch (Exception e) when (StateFiles.IsFileError(e) || e is VMatrixException)
        {
            return null;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _nestLock?.Dispose();
        _lock.Dispose();
    }

    /// <param name="folder">The state folder.</param>
    /// <param name="nest">The nest, which copies of the pool file share though each has a state folder of its own; null to leave it alone.</param>
    /// <param name="by">Who takes it.</param>
    /// <param name="lockClaims">Keeps claims away meanwhile.</param>
    /// <param name="cancellation">Ends the wait for another.</param>
    internal static Decider Take(string folder, string? nest, string by, Func<CancellationToken, IDisposable> lockClaims, CancellationToken cancellation)
    {
        var held = Lock(folder, cancellation) ?? throw new VMatrixException("DeciderBusy", VMatrixErrorKind.Busy, $"The pool has a decider already: {Read(folder) ?? "one that has just begun"}. Stop it, or let it switch.");
        FileStream? nestLock = null;
        try
        {
            if (nest is not null)
            {
                nestLock = LockNest(nest, cancellation) ?? throw new VMatrixException("DeciderBusy", VMatrixErrorKind.Busy,
                    $"The nest {nest} has a decider already: {Read(nest) ?? "one that has just begun"}. It works by another copy of the pool file, with a state folder of its own. Stop it, and name one state folder as 'state' in both.");
            }

            using (lockClaims(cancellation))
            {
                // The state folder and the nest each keep the epoch twice: one that was lost or restored from a backup does not set it back.
                var seen = Math.Max(Seen(folder, held), nestLock is null ? 0 : Seen(nest!, nestLock));
                var decider = new Decider(folder, held, nest, nestLock, lockClaims, new Holder { Epoch = After(seen, folder), By = by, Nonce = Guid.NewGuid(), Since = DateTimeOffset.UtcNow });
                decider.Write();
                return decider;
            }
        }
        catch
        {
            nestLock?.Dispose();
            held.Dispose();
            throw;
        }
    }

    private void Write()
    {
        StateFiles.Replace(HolderPath(_folder), StateFiles.ToBytes(_holder));
        Write(_lock);
        if (_nestLock is null)
            return;
        StateFiles.Replace(HolderPath(_nest!), StateFiles.ToBytes(_holder with { By = $"{_holder.By}, with the state folder {_folder}" }));
        Write(_nestLock);
    }

    private void Write(FileStream held)
    {
        var text = Encoding.ASCII.GetBytes(Epoch.ToString(CultureInfo.InvariantCulture));
        held.SetLength(0);
        held.Write(text, 0, text.Length);
        held.Flush(true);
    }

    private static long Seen(string folder, FileStream held)
    {
        var bytes = new byte[20];
        held.Position = 0;
        var kept = long.TryParse(Encoding.ASCII.GetString(bytes, 0, held.Read(bytes, 0, bytes.Length)), NumberStyles.None, CultureInfo.InvariantCulture, out var epoch) ? epoch : 0;
        return Math.Max(kept, StateFiles.TryReadJson<Holder>(HolderPath(folder))?.Epoch ?? 0);
    }

    private static long After(long seen, string folder) => seen < long.MaxValue ? seen + 1
        : throw new VMatrixException("StateCorrupt", VMatrixErrorKind.Corrupt, $"The epoch {seen} that the state folder {folder}, the nest or a driver keeps cannot be right: no decider could follow it. Restore the files decider.json and epoch.json from a backup.");

    private static FileStream? Lock(string folder, CancellationToken cancellation)
    {
        FileStream? held = null;

        // Somebody who only looks holds the lock for microseconds; a decider holds it.
        for (var tries = 0; held is null && tries < 5; tries++)
        {
            if (tries > 0 && cancellation.WaitHandle.WaitOne(10))
                cancellation.ThrowIfCancellationRequested();
            held = StateFiles.TryLock(LockPath(folder));
        }

        return held;
    }

    private static FileStream? LockNest(string nest, CancellationToken cancellation)
    {
        try
        {
            OwnFiles.CreateFolder(nest);
            return Lock(nest, cancellation);
        }
        catch (Exception e) when (StateFiles.IsFileError(e))
        {
            throw new VMatrixException("NestUnreachable", VMatrixErrorKind.Unreachable, $"The nest {nest} cannot be locked, so nothing keeps another decider from it: {e.Message}", e);
        }
    }

    internal static string? Read(string folder)
    {
        if (!StateFiles.IsLocked(LockPath(folder)))
            return null;
        try
        {
            return StateFiles.TryReadJson<Holder>(HolderPath(folder))?.By;
        }
        catch (VMatrixException)
        {
            return "one whose name cannot be read";
        }
    }

    internal static VMatrixException Lost(string folder, string? by, Exception? inner = null) =>
        new("DeciderLost", VMatrixErrorKind.Busy, $"The decider's lock in {folder} is no longer held by this process" + (by is null ? "." : $"; {by} has it now.") + " Nothing more is changed; start again.", inner);

    private static string LockPath(string folder) => Path.Combine(folder, "decider.lock");

    private static string HolderPath(string folder) => Path.Combine(folder, "decider.json");

    private sealed record Holder
    {
        public long Epoch { get; init; }

        public string By { get; init; } = "";

        public Guid Nonce { get; init; }

        public DateTimeOffset Since { get; init; }
    }
}
