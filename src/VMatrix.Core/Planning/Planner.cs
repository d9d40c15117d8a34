using System;

namespace VMatrix.Planning;

/// <summary>Makes plans: sense, forecast, need, allocate, place. Pure.</summary>
public static class Planner
{
    /// <summary>Makes a plan.</summary>
    public static PlannerOutput Plan(PlannerInput input) => throw new NotImplementedException();
}
