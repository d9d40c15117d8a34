using System;
using System.IO;
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
    private readonly Guid _nonce;

    private Decider(string folder, FileStream held, string? nest, FileStream? nestLock, Guid nonce, long epoch)
    {
        (_folder, _lock, _nest, _nestLock, _nonce) = (folder, held, nest, nestLock, nonce);
        Epoch = epoch;
    }

    /// <summary>The epoch, greater than any before.</summary>
    public long Epoch { get; }

    /// <summary>Throws <c>DeciderLost</c> when the lock is no longer held: the state folder went away, or its files were replaced or deleted and somebody else may have taken over.</summary>
    public void Check()
    {
        try
        {
            if (!_lock.CanWrite || !StateFiles.IsLocked(LockPath(_folder)) || StateFiles.TryReadJson<Holder>(HolderPath(_folder))?.Nonce != _nonce)
                throw Lost(_folder, Read(_folder));
        }
        catch (Exception e) when (StateFiles.IsFileError(e) || e is VMatrixException { Id: not "DeciderLost" })
        {
            throw Lost(_folder, null, e);
        }

        if (OfNest() is { } other && other.Nonce != _nonce)
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
    internal static Decider Take(string folder, string? nest, string by, Func<IDisposable> lockClaims)
    {
        var held = Lock(folder) ?? throw new VMatrixException("DeciderBusy", VMatrixErrorKind.Busy, $"The pool has a decider already: {Read(folder) ?? "one that has just begun"}. Stop it, or let it switch.");
        FileStream? nestLock = null;
        try
        {
            if (nest is not null)
            {
                nestLock = LockNest(nest) ?? throw new VMatrixException("DeciderBusy", VMatrixErrorKind.Busy,
                    $"The nest {nest} has a decider already: {Read(nest) ?? "one that has just begun"}. It works by another copy of the pool file, with a state folder of its own. Stop it, and name one state folder as 'state' in both.");
            }

            using (lockClaims())
            {
                var before = StateFiles.TryReadJson<Holder>(HolderPath(folder));
                var nonce = Guid.NewGuid();

                // With the file lost the drivers may still remember epochs: one from the wall clock is above them all.
                var epoch = before is null && held.Length > 0 ? DateTimeOffset.UtcNow.ToUnixTimeSeconds() : (before?.Epoch ?? 0) + 1;
                var holder = new Holder { Epoch = epoch, By = by, Nonce = nonce, Since = DateTimeOffset.UtcNow };
                StateFiles.Replace(HolderPath(folder), StateFiles.ToBytes(holder));
                if (nest is not null)
                    StateFiles.Replace(HolderPath(nest), StateFiles.ToBytes(holder with { By = $"{by}, with the state folder {folder}" }));
                if (held.Length == 0)
                {
                    held.WriteByte((byte)'.');
                    held.Flush(true);
                }
                return new Decider(folder, held, nest, nestLock, nonce, epoch);
            }
        }
        catch
        {
            nestLock?.Dispose();
            held.Dispose();
            throw;
        }
    }

    private static FileStream? Lock(string folder)
    {
        FileStream? held = null;

        // Somebody who only looks holds the lock for microseconds; a decider holds it.
        for (var tries = 0; held is null && tries < 5; tries++)
        {
            if (tries > 0)
                Thread.Sleep(10);
            held = StateFiles.TryLock(LockPath(folder));
        }

        return held;
    }

    private static FileStream? LockNest(string nest)
    {
        try
        {
            OwnFiles.CreateFolder(nest);
            return Lock(nest);
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
