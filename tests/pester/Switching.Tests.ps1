# Plans, switches, and what stops them.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
}

Describe 'A plan' {
    BeforeAll { $env:VMATRIX_POOL = New-TestPool }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'is printed by -WhatIf, a line a move with no reason and no id, and nothing is changed' {
        $said = & ([Environment]::ProcessPath) -NoProfile -NonInteractive -Command "`$PSStyle.OutputRendering = 'PlainText'; Import-Module '$Module'; Invoke-VMatrixSwitch -WhatIf; New-VMatrixServer FINANCE -WhatIf"
        ($said -match '^  \d\. ').Count | Should -Be 4
        $said | Should -Contain '  2. Wake FINANCE-1, Nest -> Matrix on host1'
        $said -join "`n" | Should -Not -Match 'needs 1 and is granted|[0-9a-f]{8}-[0-9a-f]{4}'
        $said[-1] | Should -BeLike 'What if:*Create in the Nest*FINANCE*'
        Invoke-VMatrixSwitch -WhatIf -PassThru | Should -BeNullOrEmpty
        Get-VMatrixServer | Should -BeNullOrEmpty
        Get-VMatrixMove | Should -BeNullOrEmpty
    }

    It 'is an object whose moves have reasons' {
        $plan = New-VMatrixPlan
        $plan | Should -BeOfType VMatrix.Plan
        $plan.Moves.Count | Should -BeGreaterThan 1
        $plan.Moves.Reason | Should -Not -Contain $null
        $plan.Decisions.Service | Should -Be 'FINANCE', 'SPORTS'
        Get-VMatrixServer | Should -BeNullOrEmpty
    }

    It 'is carried out by its id, and not as the object says' {
        $plan = New-VMatrixPlan
        $dead = $plan | ConvertTo-Json -Depth 5 | ConvertFrom-Json
        $dead.Moves | ForEach-Object { $_.ToHost = 'nowhere'; $_.ServerName = 'EVIL' }
        $records = $dead | Invoke-VMatrixSwitch -PassThru
        $records.Id | Sort-Object | Should -Be ($plan.Moves.Id | Sort-Object)
        $records.Status | Select-Object -Unique | Should -Be 'Done'
        $records.PlanId | Select-Object -Unique | Should -Be $plan.Id
        (Get-VMatrixServer).Name | Should -Not -Contain 'EVIL'
        (Get-VMatrixServer -Stage Matrix).Service | Sort-Object | Should -Be 'FINANCE', 'SPORTS'
    }

    It 'that is not there is an error' {
        $complaints = $null
        Invoke-VMatrixSwitch -Plan ([guid]::NewGuid()) -ErrorAction SilentlyContinue -ErrorVariable complaints
        $complaints[0].FullyQualifiedErrorId | Should -Be 'PlanNotFound,VMatrix.Commands.InvokeVMatrixSwitchCommand'
    }

    It 'that has nothing to do does nothing, and says why' {
        $before = @(Get-VMatrixMove).Count
        Invoke-VMatrixSwitch -PassThru | Should -BeNullOrEmpty
        @(Get-VMatrixMove).Count | Should -Be $before
        $plan = New-VMatrixPlan
        $plan.Moves.Count | Should -Be 0
        $plan.Summary | Should -BeLike 'Nothing to do*'
        $plan.Decisions.Reason | ForEach-Object { $_ | Should -Match '\d' }
    }

    It 'tells reasons with -Verbose' {
        $pool = New-TestPool
        $said = Invoke-VMatrixSwitch -Pool $pool -WhatIf -Verbose 4>&1
        "$said" | Should -Match 'Wake FINANCE-1, Nest -> Matrix on host1: FINANCE has 0'
    }
}

Describe 'Switching until stopped' {
    It 'is the one decider, ends at a stop, and leaves the servers running' {
        $pool = New-TestPool
        $shell = [powershell]::Create()
        try {
            $null = $shell.AddScript("Import-Module '$Module'; Invoke-VMatrixSwitch -Pool '$pool' -Continuous -Interval 00:00:00.2 -PassThru")
            $out = [System.Management.Automation.PSDataCollection[psobject]]::new()
            $run = $shell.BeginInvoke([System.Management.Automation.PSDataCollection[psobject]]::new(), $out)
            # Its moves come down the pipeline while it runs.
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            $moves = @()
            while ($moves.Count -lt 2 -and $patience.Elapsed.TotalSeconds -lt 60) {
                Start-Sleep -Milliseconds 50
                $moves += @($out.ReadAll() | Where-Object { $_.Move.ToStage -eq 'Matrix' })
            }
            $moves.Count | Should -BeGreaterOrEqual 2
            (Get-VMatrixPool $pool).Decider | Should -BeLike "Invoke-VMatrixSwitch*$PID*"

            $complaints = $null
            New-VMatrixPlan -Pool $pool | Invoke-VMatrixSwitch -Pool $pool -ErrorAction SilentlyContinue -ErrorVariable complaints
            $complaints[0].FullyQualifiedErrorId | Should -Be 'DeciderBusy,VMatrix.Commands.InvokeVMatrixSwitchCommand'
            $complaints[0].CategoryInfo.Category | Should -Be 'ResourceBusy'
            $complaints[0].Exception.Message | Should -BeLike "*Invoke-VMatrixSwitch*$PID*"

            $shell.Stop()
            $run.IsCompleted | Should -BeTrue
            $shell.InvocationStateInfo.State | Should -Be 'Stopped'
            (Get-VMatrixPool $pool).Decider | Should -BeNullOrEmpty
            (Get-VMatrixServer -Pool $pool -Stage Matrix).Power | Select-Object -Unique | Should -Be 'Running'
            Get-VMatrixMove -Pool $pool -Status Running, Pending, Interrupted | Should -BeNullOrEmpty
        }
        finally { $shell.Dispose() }
    }
}

Describe 'Switching on where moves wait for approval' {
    It 'tells once how to approve them' {
        $pool = New-TestPool
        Add-Content $pool 'oracle: { mode: confirm, interval: 100ms }'
        $shell = [powershell]::Create()
        try {
            $null = $shell.AddScript("Import-Module '$Module'; Invoke-VMatrixSwitch -Pool '$pool' -Continuous")
            $run = $shell.BeginInvoke()
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            while ($shell.Streams.Warning.Count -eq 0 -and $patience.Elapsed.TotalSeconds -lt 120) { Start-Sleep -Milliseconds 50 }
            $told = "$($shell.Streams.Warning[0])"
            $told | Should -Match '^\d+ moves wait for an approval: Approve-VMatrixPlan -Id [0-9a-f-]{36}$'
            $id = $told.Split(' ')[-1]
            (Get-VMatrixPlan -Pool $pool -Status Waiting).Id | Should -Contain $id
            $null = Approve-VMatrixPlan -Id $id -Pool $pool
            while (@(Get-VMatrixServer -Pool $pool -Stage Matrix).Count -lt 2 -and $patience.Elapsed.TotalSeconds -lt 240) { Start-Sleep -Milliseconds 50 }
            @(Get-VMatrixServer -Pool $pool -Stage Matrix).Count | Should -BeGreaterOrEqual 2
            @($shell.Streams.Warning | Where-Object { "$_" -like "*$id" }).Count | Should -Be 1
            $shell.Stop()
            $run.IsCompleted | Should -BeTrue
        }
        finally { $shell.Dispose() }
    }
}

Describe 'A move that is stopped or fails' {
    It 'is brought to a whole state by Ctrl+C' {
        $pool = New-TestPool -Simulation 'bootTime: 30s', 'wakeTime: 30s'
        $server = New-VMatrixServer FINANCE -Pool $pool
        $shell = [powershell]::Create()
        try {
            $null = $shell.AddScript("Import-Module '$Module'; Move-VMatrixServer $($server.Id) -Stage Matrix -Pool '$pool'")
            $run = $shell.BeginInvoke()
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            while (-not (Get-VMatrixMove -Pool $pool -Status Running) -and $patience.Elapsed.TotalSeconds -lt 20) { Start-Sleep -Milliseconds 50 }
            Get-VMatrixMove -Pool $pool -Status Running | Should -Not -BeNullOrEmpty
            $shell.Stop()
            $run.IsCompleted | Should -BeTrue
            Get-VMatrixMove -Pool $pool -Status Running, Pending | Should -BeNullOrEmpty
            (Get-VMatrixServer -Pool $pool).Stage | Should -Be 'Nest'
        }
        finally { $shell.Dispose() }
    }

    It 'is an error that names the user''s input, and the others go on' {
        $pool = New-TestPool -Simulation 'bootTime: 50ms', 'wakeTime: 20ms', 'halfDead: [host2]'
        $servers = New-VMatrixServer FINANCE -Count 2 -Pool $pool
        $complaints = $null
        $null = Move-VMatrixServer $servers[0] -Destination host2 -Pool $pool -ErrorAction SilentlyContinue -ErrorVariable complaints
        $done = Move-VMatrixServer $servers[1] -Destination host1 -Pool $pool -PassThru
        $complaints[0].FullyQualifiedErrorId | Should -Match '^Move(Obstructed|Undone|Failed|Refused|Interrupted),VMatrix.Commands.MoveVMatrixServerCommand$'
        $complaints[0].TargetObject.Id | Should -Be $servers[0].Id
        $done.Host | Should -Be 'host1'
    }
}

Describe 'What ends the pipeline in the middle of a switch' {
    BeforeEach {
        # The move to one host fails before the other is done.
        $pool = New-TestPool -Simulation 'bootTime: 6s', 'wakeTime: 6s', 'halfDead: [host1]'
        $plan = New-VMatrixPlan -Pool $pool
    }

    It 'takes nothing back, and is told at the end: <Name>' -ForEach @(
        @{ Name = '-ErrorAction Stop'; Run = { Invoke-VMatrixSwitch $plan -Pool $pool -ErrorAction Stop } }
        @{ Name = '$ErrorActionPreference'; Run = { $ErrorActionPreference = 'Stop'; Invoke-VMatrixSwitch $plan -Pool $pool } }
        @{ Name = 'a reader that fails'; Run = { Invoke-VMatrixSwitch $plan -Pool $pool -PassThru -ErrorAction SilentlyContinue | ForEach-Object { throw 'no more' } } }
        @{ Name = 'a reader that fails for good'; Run = { Invoke-VMatrixSwitch $plan -Pool $pool -PassThru -ErrorAction SilentlyContinue | ForEach-Object { Get-Item '/no/such/file' -ErrorAction Stop } } }
    ) {
        $caught = $null
        try { & $Run } catch { $caught = $_ }
        $caught | Should -Not -BeNullOrEmpty
        $moves = @(Get-VMatrixMove -Pool $pool | Where-Object PlanId -EQ $plan.Id)
        ($moves | Where-Object ServerName -Like 'SPORTS-*').Status | Select-Object -Unique | Should -Be 'Done'
        @(Get-VMatrixServer -Pool $pool -Service SPORTS -Stage Matrix).Count | Should -Be 1
        ($moves | Where-Object Status -NE 'Done').Move.ToHost | Should -Be 'host1'
        if ($Name -like '*Error*') { $caught.FullyQualifiedErrorId | Should -BeLike 'MoveUndone,*' }
    }

    It 'leaves what was put out before the error: -PassThru' {
        $out = [System.Collections.Generic.List[object]]::new()
        { Invoke-VMatrixSwitch $plan -Pool $pool -PassThru -ErrorAction Stop | ForEach-Object { $out.Add($_) } } | Should -Throw -ErrorId 'MoveUndone,*'
        $out.Count | Should -Be $plan.Moves.Count
    }

    It 'is a reader that has had enough, and the switch goes on: Select-Object -First' {
        $fresh = New-TestPool -Simulation 'bootTime: 1s', 'wakeTime: 1s'
        @(Invoke-VMatrixSwitch -Pool $fresh -PassThru | Select-Object -First 1).Count | Should -Be 1
        (Get-VMatrixMove -Pool $fresh).Status | Select-Object -Unique | Should -Be 'Done'
        (Get-VMatrixServer -Pool $fresh -Stage Matrix).Service | Sort-Object | Should -Be 'FINANCE', 'SPORTS'
    }

    It 'ends switching again and again once the switch is whole: <Name>' -ForEach @(
        @{ Name = 'Select-Object -First'; Run = { Invoke-VMatrixSwitch -Pool $fresh -Continuous -Interval 200ms -PassThru | Select-Object -First 1 } }
        @{ Name = 'a reader that fails'; Run = { try { Invoke-VMatrixSwitch -Pool $fresh -Continuous -Interval 200ms -PassThru | ForEach-Object { throw 'no more' } } catch { 'failed' } } }
    ) {
        $fresh = New-TestPool -Simulation 'bootTime: 1s', 'wakeTime: 1s'
        @(& $Run).Count | Should -Be 1
        (Get-VMatrixMove -Pool $fresh).Status | Select-Object -Unique | Should -Be 'Done'
        (Get-VMatrixServer -Pool $fresh -Stage Matrix).Service | Sort-Object | Should -Be 'FINANCE', 'SPORTS'
        (Get-VMatrixPool $fresh).Decider | Should -BeNullOrEmpty
    }

    It 'takes nothing back of moves by hand: <Name>' -ForEach @(
        @{ Name = 'Move-VMatrixServer'; Run = { Move-VMatrixServer SPORTS-1, SPORTS-2 -Destination host2 -Pool $slow } }
        @{ Name = 'Suspend-VMatrixHost'; Run = { Suspend-VMatrixHost host1 -Pool $slow } }
    ) {
        $slow = New-TestPool -Simulation 'bootTime: 1s', 'wakeTime: 1s'
        $null = New-VMatrixServer SPORTS -Count 2 -Pool $slow
        Move-VMatrixServer SPORTS-1, SPORTS-2 -Destination host1 -Pool $slow
        $before = @(Get-VMatrixMove -Pool $slow).Count
        # The first word about a move is one too many.
        { $VerbosePreference = 'Stop'; & $Run } | Should -Throw
        $moves = @(Get-VMatrixMove -Pool $slow)
        $moves.Count | Should -BeGreaterThan $before
        $moves.Status | Select-Object -Unique | Should -Be 'Done'
    }

    It 'is an error of one server, and what was done with it is returned' {
        $slow = New-TestPool -Simulation 'bootTime: 100ms', 'wakeTime: 100ms', 'halfDead: [host2]'
        $null = New-VMatrixServer SPORTS -Count 2 -Pool $slow
        $out = [System.Collections.Generic.List[object]]::new()
        { [pscustomobject]@{ Name = 'SPORTS-1'; Destination = 'host2' }, [pscustomobject]@{ Name = 'SPORTS-2'; Destination = 'host1' } | Move-VMatrixServer -Force -Pool $slow -PassThru -ErrorAction Stop | ForEach-Object { $out.Add($_) } } | Should -Throw -ErrorId 'Move*,VMatrix.Commands.MoveVMatrixServerCommand'
        $out.Name | Should -Be 'SPORTS-2'
    }
}

Describe 'Moves side by side' {
    It 'whose hosts VMatrix chose all find room: ForEach-Object -Parallel' {
        $pool = New-TestPool -Simulation 'bootTime: 300ms', 'wakeTime: 300ms'
        $servers = New-VMatrixServer SPORTS -Count 4 -Pool $pool
        $module = $Module
        $said = $servers.Name | ForEach-Object -ThrottleLimit 4 -Parallel {
            Import-Module $using:module
            try { (Move-VMatrixServer $_ -Stage Matrix -Pool $using:pool -PassThru -ErrorAction Stop).Host } catch { "$_" }
        }
        $said | Where-Object { $_ -notmatch '^host\d$' } | Should -BeNullOrEmpty
        $on = (Get-VMatrixServer -Pool $pool -Stage Matrix).Host | Group-Object
        ($on | Measure-Object Count -Sum).Sum | Should -Be 4
        ($on | Measure-Object Count -Maximum).Maximum | Should -BeLessOrEqual 2 -Because 'a host takes two'
    }
}
