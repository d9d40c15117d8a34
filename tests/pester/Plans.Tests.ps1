# Stored plans, approvals, and a plan by every shape that names it.
BeforeAll {
    . "$PSScriptRoot/Shared.ps1"
    Import-Module $Module
}

Describe 'Get-VMatrixPlan' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        $first = New-VMatrixPlan
        $plan = New-VMatrixPlan
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'lists plans, newest first, with what became of them' {
        $plans = Get-VMatrixPlan
        $plans | Should -BeOfType VMatrix.PlanRecord
        $plans.Id | Should -Be $plan.Id, $first.Id
        $plans.Status | Select-Object -Unique | Should -Be 'Ready'
        (Get-VMatrixPlan -Newest 1).Id | Should -Be $plan.Id
        Get-VMatrixPlan -Status Waiting | Should -BeNullOrEmpty
        $plans[0].Hash | Should -Be $plan.Hash
    }

    It 'takes <Shape>' -ForEach @(
        @{ Shape = 'a live plan'; Give = { $plan } }
        @{ Shape = 'a live record'; Give = { Get-VMatrixPlan -Newest 1 } }
        @{ Shape = 'a deserialized plan'; Give = { [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($plan)) } }
        @{ Shape = 'plans in an array'; Give = { , @($plan) } }
        @{ Shape = 'a CSV row'; Give = { $plan | Select-Object Id, Summary | ConvertTo-Csv | ConvertFrom-Csv } }
        @{ Shape = 'a string'; Give = { "$($plan.Id)" } }
        @{ Shape = 'a Guid'; Give = { $plan.Id } }
        @{ Shape = 'Select-Object'; Give = { $plan | Select-Object Id } }
        @{ Shape = 'a JSON object'; Give = { $plan | ConvertTo-Json -Depth 4 | ConvertFrom-Json } }
        @{ Shape = 'an object with a PlanId'; Give = { [pscustomobject]@{ PlanId = $plan.Id; Id = [guid]::NewGuid() } } }
    ) {
        (Get-VMatrixPlan -Id (& $Give)).Id | Should -Be $plan.Id
    }

    It 'shows in a list what settings could not be met and how many samples were good: <_>' -ForEach 'New-VMatrixPlan', 'Get-VMatrixPlan' {
        $found = @(& $_)[0]
        $of = if ($found.Plan) { $found.Plan } else { $found }
        $of.GetType().GetProperty('Unmet').SetValue($of, [VMatrix.UnmetSetting[]] @([VMatrix.UnmetSetting]::new('balanceGap', 'no move narrows it')))
        $list = $found | Format-List | Out-String -Width 200
        $list | Should -Match '(?m)^\s*Unmet\s*: balanceGap: no move narrows it'
        $list | Should -Match "(?m)^\s*SampleCoverage\s*: $([regex]::Escape('{0:P0}' -f $of.SampleCoverage))"
    }

    It 'says so when there is none, and goes on' {
        $complaints = $null
        $found = Get-VMatrixPlan -Id ([guid]::NewGuid()), $plan -ErrorAction SilentlyContinue -ErrorVariable complaints
        $found.Id | Should -Be $plan.Id
        $complaints[0].FullyQualifiedErrorId | Should -Be 'PlanNotFound,VMatrix.Commands.GetVMatrixPlanCommand'
    }

    It 'keeps the moves of a plan through serialization' {
        $dead = [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize((Get-VMatrixPlan -Id $plan)))
        $dead.Moves[0].ServerName | Should -Be $plan.Moves[0].ServerName
        $dead.Plan.Moves[0].Reason | Should -Be $plan.Moves[0].Reason
        $dead.Plan.Decisions[0].Reason | Should -Be $plan.Decisions[0].Reason
    }

    It 'shows a line a move, and the reasons in Format-List' {
        $new = New-VMatrixPlan
        $reason = $new.Moves[1].Reason
        $lines = ($new | Out-String -Width 200).Trim() -split "`n"
        $lines.Count | Should -Be (2 + $new.Moves.Count)
        $lines[3] | Should -Match '^  2\. Wake FINANCE-1, Nest -> Matrix on host\d\s*$'
        ($new.Moves | Out-String -Width 200) | Should -Not -BeLike "*$($reason.Substring(0, 20))*"
        foreach ($list in ($new | Format-List | Out-String -Width 9999), ($new.Moves | Format-List | Out-String -Width 9999), (Get-VMatrixPlan -Id $new | Format-List | Out-String -Width 9999)) {
            $list | Should -BeLike "*$reason*"
        }
    }

    It 'that was carried out is Done, and one that was not wholly is PartlyDone' {
        $pool = New-TestPool
        $done = New-VMatrixPlan -Pool $pool
        $done | Invoke-VMatrixSwitch
        $record = Get-VMatrixPlan -Id $done -Pool $pool
        $record.Status | Should -Be 'Done'
        $record.EndedAt | Should -BeGreaterOrEqual $record.BegunAt
        $broken = New-TestPool -Simulation 'bootTime: 20ms', 'wakeTime: 20ms', 'halfDead: [host1, host2, host3]'
        $plan = New-VMatrixPlan -Pool $broken
        $plan | Invoke-VMatrixSwitch -ErrorAction SilentlyContinue
        (Get-VMatrixPlan -Id $plan -Pool $broken).Status | Should -Be 'PartlyDone'
        ($plan | Get-VMatrixMove).Id | Sort-Object | Should -Be ($plan.Moves.Id | Sort-Object)
    }

    It 'completes ids' {
        $line = 'Get-VMatrixPlan -Id '
        (TabExpansion2 $line $line.Length).CompletionMatches.CompletionText | Should -Contain "$($plan.Id)"
    }
}

Describe 'Get-VMatrixPlan -Explain' {
    BeforeAll {
        $env:VMATRIX_POOL = New-TestPool
        Invoke-VMatrixSwitch
        $plan = New-VMatrixPlan
        $server = Get-VMatrixServer -Service FINANCE -Stage Matrix
    }
    AfterAll { $env:VMATRIX_POOL = $null }

    It 'takes <Shape>' -ForEach @(
        @{ Shape = 'a live object'; Give = { $server } }
        @{ Shape = 'a deserialized object'; Give = { [System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($server)) } }
        @{ Shape = 'an array of deserialized objects'; Give = { , @([System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize($server))) } }
        @{ Shape = 'a CSV row with id and name'; Give = { $server | Select-Object Id, Name | ConvertTo-Csv | ConvertFrom-Csv } }
        @{ Shape = 'an object with a name only'; Give = { $server | Select-Object Name } }
        @{ Shape = 'an object with an id only'; Give = { $server | Select-Object Id } }
        @{ Shape = 'a string with the name'; Give = { $server.Name } }
        @{ Shape = 'a string with the id'; Give = { "$($server.Id)" } }
        @{ Shape = 'a Guid'; Give = { $server.Id } }
        @{ Shape = 'Select-Object of everything'; Give = { $server | Select-Object * } }
        @{ Shape = 'a move'; Give = { Get-VMatrixMove $server.Name | Select-Object -First 1 } }
    ) {
        $byArgument = Get-VMatrixPlan -Explain (& $Give)
        $byPipe = & $Give | Get-VMatrixPlan
        $byArgument.ServerId | Should -Be $server.Id
        $byPipe.ServerId | Should -Be $server.Id
        $byArgument.PlanId | Should -Be $plan.Id
    }

    It 'tells of hosts and services, live, dead and by name' {
        (Get-VMatrixHost host1 | Get-VMatrixPlan).Kind | Should -Be 'Host'
        (Get-VMatrixPlan -Explain ([System.Management.Automation.PSSerializer]::Deserialize([System.Management.Automation.PSSerializer]::Serialize((Get-VMatrixHost host1))))).Subject | Should -Be 'host1'
        (Get-VMatrixPlan -Explain HOST1).Subject | Should -Be 'host1'
        (Get-VMatrixService SPORTS | Get-VMatrixPlan).Kind | Should -Be 'Service'
    }

    It 'explains nothing to do, with what each host would cost' {
        $story = Get-VMatrixPlan -Explain $server
        $story.Outcome | Should -BeLike "*stays on $($server.Host)*"
        $story.Note | Should -BeNullOrEmpty
        $story.Candidates.Host | Sort-Object | Should -Be 'host1', 'host2', 'host3'
        ($story.Candidates | Where-Object Verdict -EQ 'here').Host | Should -Be $server.Host
        $story.Services[0].Decision.Reason | Should -Not -BeNullOrEmpty
        $text = $story | Out-String -Width 200
        $text | Should -Match 'priority 4'
        $text | Should -Match ', cost \d'
    }

    It 'tells the story of an older plan, and of what is not there' {
        $older = @(Get-VMatrixPlan)[-1]
        $older.Id | Should -Not -Be $plan.Id
        (Get-VMatrixPlan -Explain FINANCE -Id $older).Outcome | Should -BeLike '*moves for FINANCE*'
        $complaints = $null
        $found = 'nothing', 'host2' | Get-VMatrixPlan -ErrorAction SilentlyContinue -ErrorVariable complaints
        $found.Subject | Should -Be 'host2'
        $complaints[0].FullyQualifiedErrorId | Should -Be 'SubjectNotFound,VMatrix.Commands.GetVMatrixPlanCommand'
    }

    It 'is told by the program too' {
        $text = dotnet (Join-Path $Module 'bin/net10.0/engine/vmatrix-oracle.dll') explain $env:VMATRIX_POOL $server.Name --plan $plan.Id
        $LASTEXITCODE | Should -Be 0
        $text -join "`n" | Should -BeLike "*$($server.Id)*stays on $($server.Host)*priority 4*"
    }

    It 'completes hosts, services and servers' {
        $line = 'Get-VMatrixPlan -Explain '
        (TabExpansion2 $line $line.Length).CompletionMatches.CompletionText | Should -Contain 'host1'
        (TabExpansion2 $line $line.Length).CompletionMatches.CompletionText | Should -Contain 'FINANCE'
    }
}

Describe 'Approve-VMatrixPlan' {
    BeforeAll {
        $pool = New-TestPool
        Add-Content $pool 'oracle: { mode: confirm }'
    }

    It 'lets a plan go that waited for it' {
        $plan = New-VMatrixPlan -Pool $pool
        (Get-VMatrixPlan -Id $plan -Pool $pool).Status | Should -Be 'Waiting'
        $complaints = $null
        $plan | Invoke-VMatrixSwitch -Pool $pool -ErrorAction SilentlyContinue -ErrorVariable complaints
        $complaints[0].FullyQualifiedErrorId | Should -Be 'PlanNotApproved,VMatrix.Commands.InvokeVMatrixSwitchCommand'
        Get-VMatrixServer -Pool $pool | Should -BeNullOrEmpty

        $plan | Approve-VMatrixPlan -Pool $pool -WhatIf
        (Get-VMatrixPlan -Id $plan -Pool $pool).Status | Should -Be 'Waiting'
        $record = $plan | Approve-VMatrixPlan -Pool $pool -PassThru
        $record.Status | Should -Be 'Approved'
        $record.ApprovedBy | Should -BeLike "*$([Environment]::UserName)*process $PID*"
        ($plan | Invoke-VMatrixSwitch -Pool $pool -PassThru).Status | Select-Object -Unique | Should -Be 'Done'
        (Get-VMatrixMove -Pool $pool -Newest 1).By | Should -BeLike '*approved by*'
    }

    It 'is heard by a decider in another process' {
        $pool = New-TestPool
        Add-Content $pool 'oracle: { mode: confirm, interval: 200ms }'
        $oracle = Join-Path $Module 'bin/net10.0/engine/vmatrix-oracle.dll'
        $process = Start-Process dotnet -ArgumentList $oracle, 'run', $pool -PassThru -RedirectStandardOutput (Join-Path $TestDrive 'oracle.txt')
        try {
            $patience = [System.Diagnostics.Stopwatch]::StartNew()
            while (-not ($waiting = @(Get-VMatrixPlan -Status Waiting -Pool $pool -ErrorAction Ignore)) -and $patience.Elapsed.TotalSeconds -lt 60) { Start-Sleep -Milliseconds 100 }
            $waiting.Count | Should -Be 1
            $waiting[0].By | Should -BeLike "vmatrix-oracle (process $($process.Id)*"
            $waiting | Approve-VMatrixPlan -Pool $pool
            while ((Get-VMatrixServer -Pool $pool -Stage Matrix).Count -lt 2 -and $patience.Elapsed.TotalSeconds -lt 90) { Start-Sleep -Milliseconds 100 }
            (Get-VMatrixServer -Pool $pool -Stage Matrix).Service | Sort-Object | Should -Be 'FINANCE', 'SPORTS'
            $record = Get-VMatrixPlan -Id $waiting[0] -Pool $pool
            while ($record.Status -eq 'Begun' -and $patience.Elapsed.TotalSeconds -lt 180) { Start-Sleep -Milliseconds 100; $record = Get-VMatrixPlan -Id $waiting[0] -Pool $pool }
            $record.Status | Should -Be 'Done'
            $record.ApprovedBy | Should -BeLike "*process $PID*"
        }
        finally {
            if (-not $process.HasExited) { $process.Kill(); $process.WaitForExit() }
        }
    }

    It 'refuses a plan that does not wait' {
        $auto = New-TestPool
        $complaints = $null
        New-VMatrixPlan -Pool $auto | Approve-VMatrixPlan -Pool $auto -ErrorAction SilentlyContinue -ErrorVariable complaints
        $complaints[0].FullyQualifiedErrorId | Should -Be 'PlanNotWaiting,VMatrix.Commands.ApproveVMatrixPlanCommand'
    }
}
