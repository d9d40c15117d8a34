using System;

namespace VMatrix.Planning;

/// <summary>
/// What one more server is worth: a decision under uncertainty of the newsvendor's kind (Arrow, Harris, Marschak 1951). The n-th
/// server of a service saves, by the minute, the service's priority times the share of its capacity that will be used; it costs
/// what a held server costs, and an activation before that. Demand is expected to stay over the horizon as it is at its start;
/// that a server can be given up as soon as it no longer pays is why the horizon is minutes and not hours: a longer one
/// overrates what is held, as it leaves out what will be known by then.
/// A server that was moved lately is dearer to move again: that its service's need and another's have already changed places once
/// tells that they may again, before a move has paid for itself.
/// An activation costs a price of its own, what is held while it wakes and serves nobody, and in proportion the bytes that it reads or copies:
/// a cost affine in the bytes is what was measured for moves of virtual machines (Liu, Xu, Jin, Gong, Liao, Performance and energy modeling for
/// live migration of virtual machines, 2011). Seconds and bytes are those measured of the service's last activations.
/// All figures are in the minute's unserved work of one server of priority 1.
/// </summary>
internal readonly struct Economy
{
    private readonly double _serverCost;
    private readonly double _activationCost;
    private readonly double _horizon;
    private readonly double _step;
    private readonly double _wake;
    private const double GiB = 1L << 30;

    /// <summary>The prices of a pool.</summary>
    /// <param name="oracle">Costs and horizon.</param>
    /// <param name="stepMinutes">Minutes that what is known of the near demand stands for.</param>
    /// <param name="wakeMinutes">Minutes from an activation to the first request served.</param>
    /// <param name="wakeBytes">Bytes that an activation reads or copies.</param>
    public Economy(OracleSpec oracle, double stepMinutes, double wakeMinutes, long wakeBytes = 0)
    {
        _serverCost = oracle.ServerCost;
        _activationCost = Activation(oracle, wakeBytes);
        _horizon = oracle.Horizon.TotalMinutes;
        _step = stepMinutes;
        _wake = wakeMinutes;
    }

    /// <summary>What one activation costs, but for what is held while it wakes.</summary>
    /// <param name="oracle">Prices.</param>
    /// <param name="bytes">Bytes that it reads or copies.</param>
    public static double Activation(OracleSpec oracle, long bytes) => oracle.ActivationCost + (oracle.CopyCost * bytes / GiB);

    /// <summary>What a server is worth more for having been moved lately, by unit of priority: a share of a server over the horizon, fading over the horizon.</summary>
    /// <param name="oracle">Share and horizon.</param>
    /// <param name="ago">Time since it was moved.</param>
    public static double Stay(OracleSpec oracle, TimeSpan ago) =>
        oracle.Stay * oracle.Horizon.TotalMinutes * Math.Exp(-Math.Max(0, ago.TotalMinutes) / oracle.Horizon.TotalMinutes);

    /// <summary>For how long a server counts as moved lately: until it is worth next to nothing more.</summary>
    /// <param name="oracle">Share and horizon.</param>
    public static TimeSpan StayEnds(OracleSpec oracle) =>
        TimeSpan.FromMinutes(oracle.Horizon.TotalMinutes * Math.Log(Math.Max(1, oracle.Stay * oracle.Horizon.TotalMinutes / LeastStay)));

    private const double LeastStay = 0.01;

    /// <summary>Worth of a server that is held: what it saves in the next step, then over the horizon while that pays.</summary>
    /// <param name="priority">The service's priority.</param>
    /// <param name="near">Share of it used in the next step.</param>
    /// <param name="far">Share of it used after that.</param>
    public double Held(double priority, double near, double far) =>
        _step * (priority * near - _serverCost) + Math.Max(0, _horizon * (priority * far - _serverCost));

    /// <summary>Worth of a server that must be activated: the same from when it serves, less the activation and its idle wake.</summary>
    /// <param name="priority">The service's priority.</param>
    /// <param name="near">Share of it used in the next step.</param>
    /// <param name="far">Share of it used after that.</param>
    public double Activated(double priority, double near, double far)
    {
        double soon = Math.Max(0, _step - _wake) * (priority * near - _serverCost);
        double later = (_horizon - Math.Max(0, _wake - _step)) * (priority * far - _serverCost);
        return Math.Max(0, soon + later) - _activationCost - _wake * _serverCost;
    }
}
